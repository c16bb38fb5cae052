/* The numbers of a training state, from untrusted metadata. */
#include "io/training_numbers.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

const char *const training_keys[TRAINING_NUMBERS] = {"step", "epoch", "sample", "seed", "draws", "host_draws", "lr"};

static tsr_status read_whole(const safetensors_header *h, const char *path, const char *key, uint64_t *value)
{
    const char *digits = safetensors_header_metadata(h, key);
    char *end = NULL;
    if (digits == NULL)
        return fail(TSR_CORRUPT_DATA, "%s has no '%s'", path, key);
    errno = 0;
    if (digits[0] >= '0' && digits[0] <= '9')
        *value = strtoull(digits, &end, 10);
    if (end == NULL || *end != '\0' || errno != 0)
        return fail(TSR_CORRUPT_DATA, "%s: its '%s' is '%.64s', no whole number below 2^64", path, key, digits);
    return TSR_OK;
}

static tsr_status read_real(const safetensors_header *h, const char *path, const char *key, double *value)
{
    const char *digits = safetensors_header_metadata(h, key);
    char *end = NULL;
    if (digits == NULL)
        return fail(TSR_CORRUPT_DATA, "%s has no '%s'", path, key);
    if (digits[0] != '\0')
        *value = strtod(digits, &end);
    if (end == NULL || *end != '\0' || !(*value >= 0) || !isfinite(*value))
        return fail(TSR_CORRUPT_DATA, "%s: its '%s' is '%.64s', no finite number of at least 0", path, key, digits);
    return TSR_OK;
}

static tsr_status check_kind(const safetensors_header *h, const char *path, const char *wanted)
{
    const char *format = safetensors_header_metadata(h, "format"),
               *settings = safetensors_header_metadata(h, "settings");
    if (format == NULL)
        return fail(TSR_CORRUPT_DATA, "%s is no training state: it tells no format", path);
    if (strcmp(format, TRAINING_FORMAT) != 0)
        return fail(TSR_CORRUPT_DATA, "%s is '%.64s'; what can be read is '%s'", path, format, TRAINING_FORMAT);
    if (settings == NULL)
        return fail(TSR_CORRUPT_DATA, "%s does not tell of which training it is", path);
    if (strcmp(settings, wanted) != 0)
        return fail(TSR_INVALID_ARGUMENT, "%s is of another training: it was '%.200s', this is '%.200s'", path,
                    settings, wanted);
    return TSR_OK;
}

tsr_status training_numbers_read(const safetensors_header *h, const char *path, const char *settings,
                                 training_numbers *n)
{
    tsr_status status = check_kind(h, path, settings);
    for (int i = 0; i < TRAINING_WHOLE && status == TSR_OK; i++)
        status = read_whole(h, path, training_keys[i], &n->whole[i]);
    if (status == TSR_OK && (n->whole[TRAINING_STEP] > INT64_MAX || n->whole[TRAINING_SAMPLE] > INT64_MAX))
        status = fail(TSR_CORRUPT_DATA, "%s: step %" PRIu64 " or place %" PRIu64 " is out of range", path,
                      n->whole[TRAINING_STEP], n->whole[TRAINING_SAMPLE]);
    return status == TSR_OK ? read_real(h, path, training_keys[TRAINING_WHOLE], &n->lr) : status;
}
