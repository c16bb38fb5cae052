#include "digest.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/philox.h"
#include "operators/number.h"

enum { PLACES_SEED = 0, SIGNS_SEED = 1 };

int digest_places(int64_t count, int64_t places[DIGEST_SAMPLES])
{
    const int n = count < DIGEST_SAMPLES ? (int)count : DIGEST_SAMPLES;
    philox_stream numbers = philox_begin(PLACES_SEED, PHILOX_ORDER, (uint64_t)count);
    for (int i = 0; i < n; i++)
        places[i] = count <= DIGEST_SAMPLES ? i
                    : i == 0                ? 0
                    : i == n - 1            ? count - 1
                                            : (int64_t)(philox_double(&numbers) * (double)count);
    return n;
}

static uint64_t hash_bytes(const uint8_t *bytes, size_t size)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        h = (h ^ bytes[i]) * 0x100000001b3u;
    return h;
}

/* Element i has the signs of bits 0 … 31 of word i mod 4 of counter i / 4. */
static void sketch(digest *d, const void *bytes)
{
    uint32_t words[4] = {0};
    for (int64_t i = 0; i < d->count; i++) {
        if (i % 4 == 0) {
            const uint64_t block = (uint64_t)i / 4;
            philox_block((const uint32_t[]){(uint32_t)block, (uint32_t)(block >> 32), 0, 0},
                         (const uint32_t[]){SIGNS_SEED, 0}, words);
        }
        const double v = number_load(d->dtype, bytes, i), x = isfinite(v) ? v : 0;
        const uint32_t word = words[i % 4];
        for (int k = 0; k < DIGEST_SKETCH; k++)
            d->sketch[k] += (word >> k & 1) != 0 ? x : -x;
    }
}

static void statistics(digest *d, const void *bytes)
{
    double sum = 0, squares = 0, largest = 0;
    int64_t finite = 0;
    for (int64_t i = 0; i < d->count; i++) {
        const double v = number_load(d->dtype, bytes, i);
        d->nans += isnan(v);
        d->infinities += isinf(v) != 0;
        if (!isfinite(v))
            continue;
        d->min = finite == 0 || v < d->min ? v : d->min;
        d->max = finite == 0 || v > d->max ? v : d->max;
        largest = fmax(largest, fabs(v));
        sum += v;
        finite++;
    }
    /* Scaled, so that the squares of f64 do not overflow. */
    for (int64_t i = 0; i < d->count && largest > 0; i++) {
        const double v = number_load(d->dtype, bytes, i) / largest;
        squares += isfinite(v) ? v * v : 0;
    }
    d->mean = finite > 0 ? sum / (double)finite : 0;
    d->rms = finite > 0 ? largest * sqrt(squares / (double)finite) : 0;
}

tsr_status digest_make(digest *d, tsr_tensor *t)
{
    memset(d, 0, sizeof *d);
    d->present = true;
    d->dtype = tsr_dtype_of(t);
    d->rank = tsr_rank(t);
    memcpy(d->shape, tsr_shape(t), sizeof *d->shape * (size_t)d->rank);
    d->count = tsr_numel(t);
    const size_t size = (size_t)d->count * tsr_dtype_size(d->dtype);
    uint8_t *bytes = host_alloc(size + 1);
    const tsr_status status = bytes == NULL ? tsr_last_status() : tsr_read(t, bytes, size);
    if (status == TSR_OK) {
        int64_t places[DIGEST_SAMPLES];
        d->hash = hash_bytes(bytes, size); /* as all our machines hold them: little-endian */
        d->sample_count = digest_places(d->count, places);
        for (int i = 0; i < d->sample_count; i++)
            d->samples[i] = number_load(d->dtype, bytes, places[i]);
        statistics(d, bytes);
        sketch(d, bytes);
    }
    host_free(bytes);
    return status;
}

double digest_norm(const digest *d)
{
    return d->rms * sqrt((double)(d->count - d->nans - d->infinities));
}

double digest_largest(const digest *d)
{
    return fmax(fabs(d->min), fabs(d->max));
}

double digest_distance(const digest *a, const digest *b)
{
    double squares = 0;
    if (a->hash == b->hash)
        return 0;
    if (a->nans != b->nans || a->infinities != b->infinities)
        return (double)INFINITY;
    for (int k = 0; k < DIGEST_SKETCH; k++)
        squares += (a->sketch[k] - b->sketch[k]) * (a->sketch[k] - b->sketch[k]);
    return sqrt(squares / DIGEST_SKETCH);
}
