/* For fuzzers of parsers that stand beside code for tensors on devices: here are none. */
#include "base/error.h"
#include "tessera/tensor.h"

const char *tsr_device_id(const tsr_device *device)
{
    (void)device;
    return "";
}

tsr_dtype tsr_dtype_of(const tsr_tensor *t)
{
    (void)t;
    return TSR_F32;
}

int tsr_rank(const tsr_tensor *t)
{
    (void)t;
    return 0;
}

const int64_t *tsr_shape(const tsr_tensor *t)
{
    (void)t;
    return NULL;
}

int64_t tsr_numel(const tsr_tensor *t)
{
    (void)t;
    return 0;
}

tsr_status tsr_read(tsr_tensor *t, void *data, size_t bytes)
{
    (void)t, (void)data, (void)bytes;
    return fail(TSR_NO_DEVICE, "there is no device");
}
