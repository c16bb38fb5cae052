/* What a recording keeps of a tensor: enough to tell how far it is from another machine's without having both (docs/tracing.md). */
#ifndef TESSERA_DIGEST_H
#define TESSERA_DIGEST_H

#include "tessera/tensor.h"

enum { DIGEST_SAMPLES = 64, DIGEST_SKETCH = 32, DIGEST_NAME = 64 };

typedef struct digest {
    bool present;           /* an absent operand has none */
    char name[DIGEST_NAME]; /* of a parameter: "0.weight"; "" for all else */
    tsr_dtype dtype;
    int rank;
    int64_t shape[TSR_MAX_RANK];
    int64_t count, nans, infinities;
    double mean, rms, min, max; /* of the finite elements; 0 where there are none */
    uint64_t hash;              /* FNV-1a over the elements' bytes, row-major, little-endian */
    int sample_count;
    double samples[DIGEST_SAMPLES];
    /* Sums of all finite elements, each with a random sign of its own; the signs are the same everywhere. The mean of the squared differences
     * of two sketches is that of the tensors' squared distance (Alon, Matias, Szegedy: The Space Complexity of Approximating the
     * Frequency Moments, 1996). */
    double sketch[DIGEST_SKETCH];
} digest;

/* Which elements are sampled: all up to DIGEST_SAMPLES of them, else the first, the last and some between. Returns how many. */
int digest_places(int64_t count, int64_t places[DIGEST_SAMPLES]);

/* Waits for the tensor's values. */
tsr_status digest_make(digest *d, tsr_tensor *t);

/* Euclidean norm, largest magnitude. */
double digest_norm(const digest *d);
double digest_largest(const digest *d);
/* The Euclidean distance of two tensors: 0 where they have the same bits, infinite where NaN or infinities differ in number,
 * else an estimate, which lies between half and one and a half of the distance but once in ten thousand times. */
double digest_distance(const digest *a, const digest *b);

#endif
