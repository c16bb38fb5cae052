/* The texts that stand before a kernel's source: the dialect's words in the language of a driver. Written into the
 * build by tools/kernel-pack from backends/opencl/prelude.cl and backends/cuda/prelude.cu; each file's head says how a
 * kernel takes its arguments and how to compile it. */
#ifndef TESSERA_DISPATCH_PRELUDES_H
#define TESSERA_DISPATCH_PRELUDES_H

extern const char opencl_prelude[];
extern const char cuda_prelude[];

#endif
