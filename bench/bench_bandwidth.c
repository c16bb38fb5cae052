/* What moves memory rather than multiplies, on 16 Mi f32 elements: pointwise operators and rows, against a copy loop with plain
 * stores on as many threads, in interleaved runs. Rates count each operand once (what a cache fetches in order to overwrite is not
 * counted, for the copy neither), so a ratio of 1 is the memory's speed. Beside it the rate of the same operator on operands that
 * stay in the cache: what its instructions allow, whatever the memory does. */
#include "bench.h"

enum { ROWS = 16 << 10, COLUMNS = 1 << 10, CACHED_ROWS = 64, PIECES = 64 };

typedef struct measured {
    const char *op, *what;
    int inputs, outputs;
    int passes; /* operands that come and go, each as large as the first */
    tsr_attr attr;
} measured;

#define POINTWISE(op, inputs)                                                                                          \
    {                                                                                                                  \
        op, op, inputs, 1, (inputs) + 1,                                                                               \
        {                                                                                                              \
            0                                                                                                          \
        }                                                                                                              \
    }
#define INTEGERS(key, value)                                                                                           \
    {                                                                                                                  \
        .name = key, .kind = TSR_ATTR_INTS, .values = (const int64_t[]){value}, .count = 1                             \
    }

static const measured operators[] = {
    POINTWISE("add", 2),
    POINTWISE("mul", 2),
    POINTWISE("relu", 1),
    POINTWISE("exp", 1),
    POINTWISE("log", 1),
    POINTWISE("tanh", 1),
    POINTWISE("erf", 1),
    POINTWISE("gelu", 1),
    {"sum", "sum of all", 1, 1, 1, {0}},
    {"sum", "sum of rows", 1, 1, 1, INTEGERS("axes", 1)},
    {"sum", "sum of columns", 1, 1, 1, INTEGERS("axes", 0)},
    {"softmax", "softmax", 1, 1, 2, {0}},
    {"layer_norm", "layer_norm", 3, 3, 2, INTEGERS("normalized_shape", COLUMNS)},
};

typedef struct run {
    const measured *m;
    tsr_device *device;
    tsr_tensor *in[3];
    thread_pool *pool;
    float *from, *to;
    size_t count;
} run;

static bool turn_operator(void *context)
{
    run *r = context;
    const measured *m = r->m;
    tsr_tensor *out[3] = {NULL};
    tsr_scope_begin();
    const bool good = tsr_op_call(m->op, r->in, m->inputs, out, m->outputs, &m->attr, m->attr.name != NULL) == TSR_OK &&
                      tsr_device_sync(r->device) == TSR_OK;
    tsr_scope_end();
    return good;
}

static void copy_piece(void *context, size_t piece, int worker)
{
    (void)worker;
    const run *r = context;
    const size_t begin = r->count / PIECES * piece, end = r->count / PIECES * (piece + 1);
    const float *from = r->from;
    float *to = r->to;
    /* Without the barrier a compiler makes memcpy of it, which on some machines stores past the cache. */
    for (size_t i = begin; i < end; i += 64) {
        for (size_t k = i; k < i + 64; k++)
            to[k] = from[k];
        __asm__ volatile("" ::: "memory");
    }
}

static bool turn_copy(void *context)
{
    run *r = context;
    thread_pool_run(r->pool, copy_piece, r, PIECES);
    return true;
}

static bool operands(run *r, int64_t rows)
{
    const int64_t shape[] = {rows, COLUMNS}, row[] = {COLUMNS};
    r->in[0] = tsr_uniform(r->device, TSR_F32, 2, shape, 0.1, 4);
    r->in[1] = r->m->inputs == 3 ? tsr_uniform(r->device, TSR_F32, 1, row, -1, 1)
                                 : tsr_uniform(r->device, TSR_F32, 2, shape, -4, 4);
    r->in[2] = tsr_uniform(r->device, TSR_F32, 1, row, -1, 1);
    return r->in[0] != NULL && r->in[1] != NULL && r->in[2] != NULL;
}

static void measure(bench *b, run *r)
{
    const double bytes = 4.0 * ROWS * COLUMNS;
    double time = 0, copy = 0, cached = 0, none;
    tsr_scope_begin();
    bool good = operands(r, ROWS) && bench_pair(turn_operator, turn_copy, r, &time, &copy);
    tsr_scope_end();
    tsr_scope_begin();
    good = good && operands(r, CACHED_ROWS) && bench_pair(turn_operator, NULL, r, &cached, &none);
    tsr_scope_end();
    if (!good) {
        fprintf(stderr, "%s: %s\n", r->m->what, tsr_last_error());
        b->failed = true;
        return;
    }
    const double rate = r->m->passes * bytes / time, reference = 2 * bytes / copy;
    printf("  %-16s %6.1f GB/s   copy %6.1f   ratio %.2f   in the cache %6.1f GB/s\n", r->m->what, rate * 1e-9,
           reference * 1e-9, rate / reference, r->m->passes * bytes * CACHED_ROWS / ROWS / cached * 1e-9);
    fflush(stdout);
    json *j = &b->out;
    json_begin_object(j);
    json_put_string(j, "device", tsr_device_id(r->device));
    json_put_string(j, "what", r->m->what);
    json_put_string(j, "dtype", "f32");
    json_put_double(j, "gbytes_per_second", rate * 1e-9);
    json_put_string(j, "reference", "copy loop");
    json_put_double(j, "ratio", rate / reference);
    json_put_double(j, "cached_gbytes_per_second", r->m->passes * bytes * CACHED_ROWS / ROWS / cached * 1e-9);
    json_end_object(j);
}

static void measure_device(bench *b, tsr_device *device)
{
    run r = {.device = device,
             .pool = thread_pool_create(b->threads),
             .count = (size_t)ROWS * COLUMNS,
             .from = malloc((size_t)ROWS * COLUMNS * sizeof(float)),
             .to = malloc((size_t)ROWS * COLUMNS * sizeof(float))};
    b->failed = b->failed || r.pool == NULL || r.from == NULL || r.to == NULL;
    for (size_t i = 0; i < r.count && !b->failed; i++)
        r.from[i] = r.to[i] = (float)i;
    for (size_t i = 0; i < sizeof operators / sizeof *operators && !b->failed; i++) {
        r.m = &operators[i];
        measure(b, &r);
    }
    thread_pool_destroy(r.pool);
    free(r.from);
    free(r.to);
}

int main(int argc, char **argv)
{
    bench b;
    if (!bench_begin(&b, argc, argv))
        return 2;
    bench_each_device(&b, measure_device);
    return bench_end(&b);
}
