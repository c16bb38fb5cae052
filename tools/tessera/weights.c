/* The fingerprint of a model. */
#include <string.h>

#include "base/memory.h"
#include "train.h"

/* Name (with its length before it), rank and sizes as 64-bit big-endian numbers, elements as little-endian f32. */
static tsr_status hash_parameter(sha256 *hash, tsr_tensor *parameter, const char *name)
{
    const int rank = tsr_rank(parameter);
    const int64_t count = tsr_numel(parameter);
    sha256_update_string(hash, name);
    for (int i = -1; i < rank; i++) {
        const uint64_t number = i < 0 ? (uint64_t)rank : (uint64_t)tsr_shape(parameter)[i];
        uint8_t bytes[8];
        for (int b = 0; b < 8; b++)
            bytes[b] = (uint8_t)(number >> (56 - 8 * b));
        sha256_update(hash, bytes, sizeof bytes);
    }
    float *values = host_realloc_array(NULL, (size_t)count, sizeof *values);
    if (values == NULL)
        return tsr_last_status();
    const tsr_status status = tsr_read_f32(parameter, values, (size_t)count);
    if (status == TSR_OK)
        sha256_update(hash, values, (size_t)count * sizeof *values); /* as all our machines hold them */
    host_free(values);
    return status;
}

tsr_status weights_hash(const tsr_module *model, char hex[SHA256_HEX_SIZE])
{
    sha256 hash;
    sha256_begin(&hash);
    for (size_t i = 0; i < tsr_module_parameter_count(model); i++) {
        char name[256];
        tsr_tensor *parameter = tsr_module_parameter(model, i, name, sizeof name);
        const tsr_status status = parameter == NULL ? tsr_last_status() : hash_parameter(&hash, parameter, name);
        if (status != TSR_OK)
            return status;
    }
    sha256_end_hex(&hash, hex);
    return TSR_OK;
}
