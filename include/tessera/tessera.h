/* Tessera: neural-network training on CUDA, OpenCL, Vulkan and the CPU through one C interface.
 *
 * Ownership: tensor.h. Errors: status.h. Every function may be called from any thread; objects are used by one thread at a time
 * unless their header says otherwise, except devices, which are shared freely. */
#ifndef TESSERA_H
#define TESSERA_H

#include "tessera/amp.h"
#include "tessera/autograd.h"
#include "tessera/checkpoint.h"
#include "tessera/data.h"
#include "tessera/device.h"
#include "tessera/gpt.h"
#include "tessera/io.h"
#include "tessera/memory.h"
#include "tessera/nn.h"
#include "tessera/ops.h"
#include "tessera/optim.h"
#include "tessera/profile.h"
#include "tessera/status.h"
#include "tessera/summary.h"
#include "tessera/tensor.h"
#include "tessera/tokenizer.h"
#include "tessera/trace.h"
#include "tessera/version.h"

#endif
