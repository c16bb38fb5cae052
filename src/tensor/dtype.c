/* Element types: names and sizes. */
#include <string.h>

#include "base/error.h"
#include "tensor/tensor.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[TSR_DTYPE_COUNT] = {
    [TSR_F32] = {"f32", 4}, [TSR_F16] = {"f16", 2}, [TSR_BF16] = {"bf16", 2}, [TSR_F64] = {"f64", 8},
    [TSR_I32] = {"i32", 4}, [TSR_I64] = {"i64", 8}, [TSR_U8] = {"u8", 1},     [TSR_BOOL] = {"bool", 1},
};

static bool dtype_exists(tsr_dtype dtype)
{
    return (unsigned)dtype < TSR_DTYPE_COUNT;
}

const char *tsr_dtype_name(tsr_dtype dtype)
{
    return dtype_exists(dtype) ? dtypes[dtype].name : "?";
}

size_t tsr_dtype_size(tsr_dtype dtype)
{
    return dtype_exists(dtype) ? dtypes[dtype].size : 0;
}

bool tsr_dtype_parse(const char *name, tsr_dtype *dtype)
{
    for (int i = 0; name != NULL && dtype != NULL && i < TSR_DTYPE_COUNT; i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            *dtype = (tsr_dtype)i;
            return true;
        }
    }
    fail(TSR_INVALID_ARGUMENT, "there is no dtype '%s'; there are f32, f16, bf16, f64, i32, i64, u8 and bool",
         name != NULL ? name : "(null)");
    return false;
}
