/* tsr_matmul against cblas_sgemm with all of OpenBLAS's threads, in interleaved runs; other dtypes without a reference. */
#include "bench.h"

typedef struct gemm_shape {
    const char *what;
    int64_t m, n, k, batch;
    bool ta, tb;
} gemm_shape;

static const gemm_shape shapes[] = {
    {"256 cubed", 256, 256, 256, 1, false, false},
    {"512 cubed", 512, 512, 512, 1, false, false},
    {"1024 cubed", 1024, 1024, 1024, 1, false, false},
    {"1024 cubed, A transposed", 1024, 1024, 1024, 1, true, false},
    {"1024 cubed, B transposed", 1024, 1024, 1024, 1, false, true},
    {"2048 cubed", 2048, 2048, 2048, 1, false, false},
    {"linear forward", 64, 128, 1568, 1, false, true},
    {"linear d x", 64, 1568, 128, 1, false, false},
    {"linear d weight", 128, 1568, 64, 1, true, false},
    {"32 x 196 x 400, 64 batches", 32, 196, 400, 64, false, false},
    {"16 x 784 x 25, 64 batches", 16, 784, 25, 64, false, false},
};

typedef struct context {
    const bench *b;
    tsr_device *device;
    const gemm_shape *s;
    tsr_tensor *x, *y;
    float *a, *bb, *c;
} context;

static bool our_turn(void *p)
{
    context *c = p;
    if (tsr_scope_begin() != TSR_OK)
        return false;
    const bool made = tsr_matmul(c->x, c->y) != NULL;
    return tsr_scope_end() == TSR_OK && made && tsr_device_sync(c->device) == TSR_OK;
}

static bool their_turn(void *p)
{
    context *c = p;
    const gemm_shape *s = c->s;
    bench_yardstick_threads(c->b);
    for (int64_t i = 0; i < s->batch; i++)
        c->b->sgemm(101, s->ta ? 112 : 111, s->tb ? 112 : 111, (int)s->m, (int)s->n, (int)s->k, 1,
                    c->a + i * s->m * s->k, (int)(s->ta ? s->m : s->k), c->bb + i * s->k * s->n,
                    (int)(s->tb ? s->k : s->n), 0, c->c + i * s->m * s->n, (int)s->n);
    return true;
}

static float *numbers(int64_t n)
{
    float *v = malloc(sizeof(float) * (size_t)n);
    for (int64_t i = 0; v != NULL && i < n; i++)
        v[i] = (float)(i * 2654435761 % 1000) / 500 - 1;
    return v;
}

static bool run_shape(bench *b, tsr_device *device, const gemm_shape *s, tsr_dtype dtype)
{
    context c = {b,
                 device,
                 s,
                 NULL,
                 NULL,
                 numbers(s->batch * s->m * s->k),
                 numbers(s->batch * s->k * s->n),
                 numbers(s->batch * s->m * s->n)};
    const int64_t a[] = {s->batch, s->ta ? s->k : s->m, s->ta ? s->m : s->k};
    const int64_t bs[] = {s->batch, s->tb ? s->n : s->k, s->tb ? s->k : s->n};
    const bool compared = dtype == TSR_F32 && b->sgemm != NULL;
    bench_row row = {.what = s->what,
                     .route = "matmul",
                     .reference = compared ? "OpenBLAS" : NULL,
                     .m = s->m,
                     .n = s->n,
                     .k = s->k,
                     .dtype = dtype,
                     .flops = 2.0 * (double)(s->batch * s->m * s->n * s->k),
                     .bytes = (double)tsr_dtype_size(dtype) *
                              (double)(s->batch * (s->m * s->k + s->k * s->n + s->m * s->n))};
    bool ok = tsr_scope_begin() == TSR_OK;
    c.x = tsr_cast(tsr_from_data(device, TSR_F32, 3, a, c.a), dtype);
    c.y = tsr_cast(tsr_from_data(device, TSR_F32, 3, bs, c.bb), dtype);
    c.x = s->ta ? tsr_transpose(c.x, 1, 2) : c.x;
    c.y = s->tb ? tsr_transpose(c.y, 1, 2) : c.y;
    ok = ok && c.x != NULL && c.y != NULL &&
         bench_pair(our_turn, compared ? their_turn : NULL, &c, &row.seconds, &row.reference_seconds);
    if (ok)
        bench_report(b, device, &row);
    else
        fprintf(stderr, "%s: %s\n", s->what, tsr_last_error());
    tsr_scope_end();
    free(c.a), free(c.bb), free(c.c);
    return ok;
}

static void run_device(bench *b, tsr_device *device)
{
    static const tsr_dtype others[] = {TSR_F16, TSR_BF16, TSR_F64};
    tsr_device_info info;
    tsr_device_describe(device, &info);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        b->failed = !run_shape(b, device, &shapes[i], TSR_F32) || b->failed;
    for (size_t i = 0; i < 3; i++)
        if ((info.dtypes >> others[i] & 1) != 0)
            b->failed = !run_shape(b, device, &shapes[2], others[i]) || b->failed;
}

int main(int argc, char **argv)
{
    bench b;
    if (!bench_begin(&b, argc, argv))
        return 2;
    bench_each_device(&b, run_device);
    return bench_end(&b);
}
