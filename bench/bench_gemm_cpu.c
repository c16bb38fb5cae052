/* Products on the CPU device against OpenBLAS called directly with its own threads, in interleaved runs; and what a launch
 * costs. Prints the median of each and the ratio (above 1: the device is faster).
 *
 * For the batched shapes the reference is a loop of cblas_sgemm, which is what a program without this library would write. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/cpu/openblas.h"
#include "base/clock.h"
#include "base/thread.h"
#include "hal/hal.h"
#include "tessera/tensor.h"

extern const hal_backend cpu_backend;

enum { RUNS = 11 };

/* Seconds of the same work before each measurement. */
#define WARM 0.01

typedef struct shape {
    const char *what;
    int m, n, k, batch, reduce;
    bool ta, tb;
    bool shared_a; /* one A for all batches, as a convolution's weights */
} shape;

static const shape shapes[] = {
    {"square", 256, 256, 256, 1, 1, false, false, false},
    {"square", 512, 512, 512, 1, 1, false, false, false},
    {"square", 1024, 1024, 1024, 1, 1, false, false, false},
    {"square", 2048, 2048, 2048, 1, 1, false, false, false},
    {"conv 1 forward", 16, 784, 25, 64, 1, false, false, true},
    {"conv 1 d weights", 16, 25, 784, 1, 64, false, true, false},
    {"conv 2 forward", 32, 196, 400, 64, 1, false, false, true},
    {"conv 2 d columns", 400, 196, 32, 64, 1, true, false, true},
    {"conv 2 d weights", 32, 400, 196, 1, 64, false, true, false},
    {"linear forward", 64, 128, 1568, 1, 1, false, false, false},
    {"linear d input", 64, 1568, 128, 1, 1, false, true, false},
    {"linear d weights", 1568, 128, 64, 1, 1, true, false, false},
    {"linear 10", 64, 10, 128, 1, 1, false, false, false},
};

typedef struct bench {
    hal_device *device;
    hal_queue *queue;
    hal_buffer *buffers[3];
    float *data[3];
} bench;

static float *operand(bench *b, int slot, size_t count)
{
    b->data[slot] = malloc(count * sizeof(float));
    if (b->data[slot] == NULL ||
        hal_buffer_alloc(b->device, HAL_MEMORY_DEVICE, count * sizeof(float), &b->buffers[slot]) != TSR_OK)
        return NULL;
    for (size_t i = 0; i < count; i++)
        b->data[slot][i] = (float)(i * 2654435761u % 1000) / 500 - 1;
    return hal_buffer_write(b->queue, b->buffers[slot], 0, b->data[slot], count * sizeof(float)) == TSR_OK
               ? b->data[slot]
               : NULL;
}

static void reference(const bench *b, const shape *s, const hal_gemm *g, const openblas *blas)
{
    for (int64_t i = 0; i < s->batch; i++) {
        for (int64_t r = 0; r < s->reduce; r++)
            blas->sgemm(BLAS_ROW_MAJOR, s->ta ? BLAS_TRANSPOSE : BLAS_NO_TRANSPOSE,
                        s->tb ? BLAS_TRANSPOSE : BLAS_NO_TRANSPOSE, s->m, s->n, s->k, 1,
                        b->data[0] + i * g->batch_stride_a + r * g->reduce_stride_a, (int)g->lda,
                        b->data[1] + i * g->batch_stride_b + r * g->reduce_stride_b, (int)g->ldb, r > 0 ? 1 : 0,
                        b->data[2] + i * g->batch_stride_c, (int)g->ldc);
    }
}

/* OpenBLAS's threads go on looking for work for some 30 ms, on the processor that the other side needs. */
static void settle(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 60000000}, NULL);
}

static int by_time(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times)
{
    qsort(times, RUNS, sizeof *times, by_time);
    return times[RUNS / 2];
}

static bool run_shape(bench *b, const shape *s, const openblas *blas, int threads)
{
    hal_gemm g = {.dtype = TSR_F32,
                  .transpose_a = s->ta,
                  .transpose_b = s->tb,
                  .m = s->m,
                  .n = s->n,
                  .k = s->k,
                  .lda = s->ta ? s->m : s->k,
                  .ldb = s->tb ? s->k : s->n,
                  .ldc = s->n,
                  .batch = s->batch,
                  .reduce = s->reduce,
                  .alpha = 1};
    g.reduce_stride_a = (int64_t)s->m * s->k;
    g.reduce_stride_b = (int64_t)s->k * s->n;
    g.batch_stride_a = s->shared_a ? 0 : s->reduce * g.reduce_stride_a;
    g.batch_stride_b = s->reduce * g.reduce_stride_b;
    g.batch_stride_c = (int64_t)s->m * s->n;
    const size_t counts[3] = {(size_t)((s->shared_a ? 1 : s->batch) * s->reduce * g.reduce_stride_a),
                              (size_t)(s->batch * g.batch_stride_b), (size_t)(s->batch * g.batch_stride_c)};
    hal_binding *bindings[3] = {&g.a, &g.b, &g.c};
    bool good = true;
    for (int i = 0; i < 3; i++) {
        good = good && operand(b, i, counts[i]) != NULL;
        *bindings[i] = (hal_binding){b->buffers[i], 0, counts[i] * sizeof(float)};
    }

    const double flops = 2.0 * s->m * s->n * s->k * s->batch * s->reduce;
    const int repeats = (int)fmax(1, ceil(2e9 / flops));
    double ours[RUNS], theirs[RUNS];
    for (int run = 0; run < RUNS && good; run++) {
        settle();
        double begin = clock_seconds();
        while (good && clock_seconds() - begin < WARM) /* until the threads are awake */
            good = hal_gemm_run(b->queue, &g) == TSR_OK;
        begin = clock_seconds();
        for (int i = 0; i < repeats && good; i++)
            good = hal_gemm_run(b->queue, &g) == TSR_OK;
        ours[run] = clock_seconds() - begin;

        settle();
        blas->set_num_threads(threads);
        begin = clock_seconds();
        while (clock_seconds() - begin < WARM)
            reference(b, s, &g, blas);
        begin = clock_seconds();
        for (int i = 0; i < repeats; i++)
            reference(b, s, &g, blas);
        theirs[run] = clock_seconds() - begin;
    }
    if (good) {
        const double t = median(ours) / repeats, u = median(theirs) / repeats;
        printf("%-17s %4d x %4d x %4d  batch %2d  sum %2d   %7.1f GFLOP/s   OpenBLAS %7.1f   ratio %.2f\n", s->what,
               s->m, s->n, s->k, s->batch, s->reduce, flops / t * 1e-9, flops / u * 1e-9, u / t);
    } else {
        fprintf(stderr, "%s: %s\n", s->what, tsr_last_error());
    }
    for (int i = 0; i < 3; i++) {
        free(b->data[i]);
        hal_buffer_free(b->buffers[i]);
        b->data[i] = NULL;
        b->buffers[i] = NULL;
    }
    return good;
}

static void do_nothing(void *const *bindings, const void *params, const uint32_t grid[3], uint64_t first,
                       uint64_t count)
{
    (void)bindings, (void)params, (void)grid, (void)first, (void)count;
}

static bool run_launches(const bench *b)
{
    const hal_kernel_desc desc = {.key = "nothing",
                                  .code = HAL_CODE_NATIVE,
                                  .native = do_nothing,
                                  .group_size = 1,
                                  .params_bytes = 4,
                                  .binding_count = 1,
                                  .access = {HAL_READ_WRITE},
                                  .element_bytes = {4}};
    static const struct {
        const char *what;
        uint32_t groups;
        size_t bytes;
    } rows[] = {{"1 work-group", 1, 4},
                {"16 work-groups, 4 KiB (one thread)", 16, 4096},
                {"64 work-groups, 1 MiB (all threads)", 64, 1 << 20}};
    hal_kernel *kernel = NULL;
    hal_buffer *buffer = NULL;
    bool good = hal_kernel_create(b->device, &desc, &kernel) == TSR_OK &&
                hal_buffer_alloc(b->device, HAL_MEMORY_DEVICE, 1 << 20, &buffer) == TSR_OK;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && good; i++) {
        const hal_binding binding = {buffer, 0, rows[i].bytes};
        const uint32_t params = 0;
        const hal_launch launch = {.kernel = kernel,
                                   .grid = {rows[i].groups, 1, 1},
                                   .bindings = &binding,
                                   .binding_count = 1,
                                   .params = &params,
                                   .params_bytes = 4};
        double times[RUNS];
        for (int run = 0; run < RUNS && good; run++) {
            const double begin = clock_seconds();
            for (int j = 0; j < 2000 && good; j++)
                good = hal_kernel_launch(b->queue, &launch) == TSR_OK;
            times[run] = clock_seconds() - begin;
        }
        printf("launch of %-36s %6.2f us\n", rows[i].what, median(times) / 2000 * 1e6);
    }
    hal_kernel_destroy(kernel);
    hal_buffer_free(buffer);
    return good;
}

int main(void)
{
    const openblas *blas = openblas_get();
    bench b = {.device = NULL};
    if (hal_device_open(&cpu_backend, 0, &b.device) != TSR_OK ||
        hal_queue_create(b.device, HAL_QUEUE_COMPUTE, &b.queue) != TSR_OK) {
        fprintf(stderr, "%s\n", tsr_last_error());
        return 4;
    }
    const int threads = (int)b.device->info.compute_units;
    printf("%s, %d threads, %s\n", b.device->info.name, threads,
           blas != NULL ? blas->name : "no OpenBLAS: no products");

    bool good = run_launches(&b);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0] && blas != NULL && good; i++)
        good = run_shape(&b, &shapes[i], blas, threads);
    hal_queue_destroy(b.queue);
    hal_device_close(b.device);
    return good ? 0 : 4;
}
