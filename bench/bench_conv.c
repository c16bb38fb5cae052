/* Convolutions forward and backward, against the product alone that im2col would need, by cblas_sgemm image by image. */
#include "bench.h"

typedef struct conv_shape {
    const char *what;
    int64_t n, c, size, o, kernel;
    tsr_conv2d_options options;
} conv_shape;

static const conv_shape shapes[] = {
    {"1 to 16, 5x5 on 28x28, batch 64", 64, 1, 28, 16, 5, {.padding = {2, 2}}},
    {"16 to 32, 5x5 on 14x14, batch 64", 64, 16, 14, 32, 5, {.padding = {2, 2}}},
    {"64 to 64, 3x3 on 56x56, batch 4", 4, 64, 56, 64, 3, {.padding = {1, 1}}},
    {"64 to 128, 3x3 / 2 on 56x56, batch 4", 4, 64, 56, 128, 3, {.padding = {1, 1}, .stride = {2, 2}}},
    {"256 to 256, 3x3 on 14x14, batch 4", 4, 256, 14, 256, 3, {.padding = {1, 1}}},
    {"256 to 64, 1x1 on 28x28, batch 4", 4, 256, 28, 64, 1, {.groups = 1}},
};

enum { FORWARD, BACKWARD };

typedef struct context {
    const bench *b;
    tsr_device *device;
    const conv_shape *s;
    int pass;
    tsr_tensor *x, *w, *bias, *dy;
    int64_t depth, pixels;
    float *a, *bb, *c;
} context;

static bool our_turn(void *p)
{
    context *c = p;
    if (tsr_scope_begin() != TSR_OK)
        return false;
    if (c->pass == FORWARD)
        tsr_no_grad_begin();
    tsr_tensor *y = tsr_conv2d(c->x, c->w, c->bias, &c->s->options);
    bool ok = y != NULL;
    if (c->pass == FORWARD)
        tsr_no_grad_end();
    else
        ok = ok && tsr_backward_from(y, c->dy, false) == TSR_OK;
    tsr_clear_grad(c->x);
    tsr_clear_grad(c->w);
    tsr_clear_grad(c->bias);
    return tsr_scope_end() == TSR_OK && ok && tsr_device_sync(c->device) == TSR_OK;
}

static bool their_turn(void *p)
{
    context *c = p;
    const conv_shape *s = c->s;
    bench_yardstick_threads(c->b);
    for (int64_t i = 0; i < s->n; i++) {
        c->b->sgemm(101, 111, 111, (int)s->o, (int)c->pixels, (int)c->depth, 1, c->a, (int)c->depth, c->bb,
                    (int)c->pixels, 0, c->c, (int)c->pixels);
        if (c->pass == BACKWARD) {
            c->b->sgemm(101, 112, 111, (int)c->depth, (int)c->pixels, (int)s->o, 1, c->a, (int)c->depth, c->c,
                        (int)c->pixels, 0, c->bb, (int)c->pixels);
            c->b->sgemm(101, 111, 112, (int)s->o, (int)c->depth, (int)c->pixels, 1, c->c, (int)c->pixels, c->bb,
                        (int)c->pixels, 0, c->a, (int)c->depth);
        }
    }
    return true;
}

static bool run_shape(bench *b, tsr_device *device, const conv_shape *s, int pass)
{
    const int64_t stride = s->options.stride[0] == 0 ? 1 : s->options.stride[0];
    const int64_t out = (s->size + 2 * s->options.padding[0] - s->kernel) / stride + 1;
    context c = {
        .b = b, .device = device, .s = s, .pass = pass, .depth = s->c * s->kernel * s->kernel, .pixels = out * out};
    c.a = calloc((size_t)(s->o * c.depth), sizeof(float));
    c.bb = calloc((size_t)(c.depth * c.pixels), sizeof(float));
    c.c = calloc((size_t)(s->o * c.pixels), sizeof(float));
    char what[96];
    snprintf(what, sizeof what, "%s%s", s->what, pass == BACKWARD ? ", with backward" : "");
    bench_row row = {.what = what,
                     .route = "conv2d",
                     .reference = b->sgemm != NULL ? "products by OpenBLAS" : NULL,
                     .m = s->o,
                     .n = c.pixels,
                     .k = c.depth,
                     .dtype = TSR_F32,
                     .flops = (pass == BACKWARD ? 6.0 : 2.0) * (double)(s->n * s->o * c.pixels * c.depth),
                     .bytes = 4.0 * (double)(s->n * (s->c * s->size * s->size + s->o * c.pixels) + s->o * c.depth)};
    bool ok = tsr_scope_begin() == TSR_OK;
    c.x = tsr_uniform(device, TSR_F32, 4, (int64_t[]){s->n, s->c, s->size, s->size}, -1, 1);
    c.w = tsr_uniform(device, TSR_F32, 4, (int64_t[]){s->o, s->c, s->kernel, s->kernel}, -1, 1);
    c.bias = tsr_uniform(device, TSR_F32, 1, (int64_t[]){s->o}, -1, 1);
    c.dy = tsr_uniform(device, TSR_F32, 4, (int64_t[]){s->n, s->o, out, out}, -1, 1);
    ok = ok && c.x != NULL && c.w != NULL && c.bias != NULL && c.dy != NULL &&
         tsr_set_requires_grad(c.x, true) == TSR_OK && tsr_set_requires_grad(c.w, true) == TSR_OK &&
         tsr_set_requires_grad(c.bias, true) == TSR_OK &&
         bench_pair(our_turn, b->sgemm != NULL ? their_turn : NULL, &c, &row.seconds, &row.reference_seconds);
    if (ok)
        bench_report(b, device, &row);
    else
        fprintf(stderr, "%s: %s\n", what, tsr_last_error());
    tsr_scope_end();
    free(c.a), free(c.bb), free(c.c);
    return ok;
}

static void run_device(bench *b, tsr_device *device)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int pass = FORWARD; pass <= BACKWARD; pass++)
            b->failed = !run_shape(b, device, &shapes[i], pass) || b->failed;
}

int main(int argc, char **argv)
{
    bench b;
    if (!bench_begin(&b, argc, argv))
        return 2;
    bench_each_device(&b, run_device);
    return bench_end(&b);
}
