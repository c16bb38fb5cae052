/* Random numbers on the host: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3, 2011), the
 * generator of kernels/random.k. A block is a function of counter and key alone, so any number of a stream can be had at once, and
 * the same on every machine. */
#ifndef TESSERA_BASE_PHILOX_H
#define TESSERA_BASE_PHILOX_H

#include <stdint.h>

/* Four random words. The arguments are left as they are. */
static inline void philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* [0, 1) in steps of 2^-24, exact in f32: what the kernels make of a word. */
static inline float philox_unit_float(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

/* [0, 1) in steps of 2^-53, from two words. */
static inline double philox_unit_double(uint32_t high, uint32_t low)
{
    return (double)(((uint64_t)high << 32 | low) >> 11) * 0x1p-53;
}

/* Who draws, in word 1 of the counter: streams of one seed for different ends never meet. Devices have 0 there. */
typedef enum philox_use {
    PHILOX_DEVICE = 0,
    PHILOX_ORDER = 1,
    PHILOX_WEIGHTS = 2,
    PHILOX_WINDOWS = 3,
    PHILOX_TEXT = 4
} philox_use;

/* Word after word of one stream: counters (block, use, stream low, stream high), the seed as key. */
typedef struct philox_stream {
    uint32_t counter[4], key[2], words[4];
    int used; /* of words; 4 at a block's end */
} philox_stream;

static inline philox_stream philox_begin(uint64_t seed, philox_use use, uint64_t stream)
{
    return (philox_stream){.counter = {0, (uint32_t)use, (uint32_t)stream, (uint32_t)(stream >> 32)},
                           .key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                           .used = 4};
}

static inline uint32_t philox_next(philox_stream *s)
{
    if (s->used == 4) {
        philox_block(s->counter, s->key, s->words);
        s->counter[0]++;
        s->used = 0;
    }
    return s->words[s->used++];
}

static inline float philox_float(philox_stream *s)
{
    return philox_unit_float(philox_next(s));
}

static inline double philox_double(philox_stream *s)
{
    const uint32_t high = philox_next(s);
    return philox_unit_double(high, philox_next(s));
}

/* Each of 0 … bound - 1 equally likely (bound ≥ 1). Multiplies and takes the high word; what would favour some values is drawn
 * again (Lemire: Fast Random Integer Generation in an Interval, 2019). */
static inline uint32_t philox_below(philox_stream *s, uint32_t bound)
{
    uint64_t product = (uint64_t)philox_next(s) * bound;
    if ((uint32_t)product < bound) {
        const uint32_t least = (0u - bound) % bound;
        while ((uint32_t)product < least)
            product = (uint64_t)philox_next(s) * bound;
    }
    return (uint32_t)(product >> 32);
}

#endif
