/* The CPU device's own: how grids are cut, products against a reference, and bits that do not depend on threads. */
#include "unit.h"

#include "base/error.h"
#include "base/memory.h"
#include "hal/hal.h"
#include "tessera/tensor.h"

#include "backends/cpu/cpu_half.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

extern const hal_backend cpu_backend;

typedef struct fixture {
    hal_device *device;
    hal_queue *queue;
} fixture;

static void open_with_threads(fixture *f, const char *threads)
{
    if (threads != NULL)
        setenv("TESSERA_NUM_THREADS", threads, 1);
    assert_int_equal(hal_device_open(&cpu_backend, 0, &f->device), TSR_OK);
    unsetenv("TESSERA_NUM_THREADS");
    assert_int_equal(hal_queue_create(f->device, HAL_QUEUE_COMPUTE, &f->queue), TSR_OK);
}

static void close_device(fixture *f)
{
    hal_queue_destroy(f->queue);
    assert_int_equal(hal_device_close(f->device), TSR_OK);
}

static int setup(void **state)
{
    static fixture f;
    open_with_threads(&f, "3");
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    close_device(*state);
    return 0;
}

static hal_buffer *buffer_of(const fixture *f, const void *data, size_t size)
{
    hal_buffer *b;
    assert_int_equal(hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, size, &b), TSR_OK);
    if (data != NULL)
        assert_int_equal(hal_buffer_write(f->queue, b, 0, data, size), TSR_OK);
    return b;
}

static void says_what_it_is(void **state)
{
    const fixture *f = *state;
    const hal_device_info *info = &f->device->info;
    assert_true(info->name[0] != '\0');
    assert_true(info->software && info->unified_memory);
    assert_int_equal(info->device_class, HAL_CLASS_CPU);
    assert_int_equal(info->compute_units, 3);
    assert_true(info->memory_bytes > (64u << 20));

    setenv("TESSERA_NUM_THREADS", "many", 1);
    hal_device *device;
    const tsr_status status = hal_device_open(&cpu_backend, 0, &device);
    unsetenv("TESSERA_NUM_THREADS");
    assert_int_equal(status, TSR_INVALID_ARGUMENT);
    assert_non_null(strstr(tsr_last_error(), "TESSERA_NUM_THREADS"));
}

static void memory_is_bounded(void **state)
{
    const fixture *f = *state;
    hal_buffer *b;
    assert_int_equal(hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, (size_t)1 << 60, &b), TSR_OUT_OF_DEVICE_MEMORY);
    hal_buffer *half;
    const size_t size = f->device->info.memory_bytes / 2 + 4096;
    assert_int_equal(hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, size, &half), TSR_OK); /* not touched */
    assert_int_equal(hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, size, &b), TSR_OUT_OF_DEVICE_MEMORY);
    assert_non_null(strstr(tsr_last_error(), "the machine has"));
    hal_buffer_free(half);
    assert_int_equal(hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, size, &b), TSR_OK);
    hal_buffer_free(b);

    host_alloc_fail_after(1);
    const tsr_status status = hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, 1 << 20, &b);
    host_alloc_fail_after(-1);
    assert_int_equal(status, TSR_OUT_OF_DEVICE_MEMORY); /* so that cached memory is given back and it is tried again */
}

/* Counts the visits of every work-group. */
static void count_groups(void *const *bindings, const void *params, const uint32_t grid[3], uint64_t first,
                         uint64_t count)
{
    uint32_t *visits = bindings[0];
    const uint32_t *p = params;
    if (p[0] != grid[0] || p[1] != grid[1] || p[2] != grid[2])
        return;
    for (uint64_t i = first; i < first + count; i++)
        visits[i]++;
}

static void runs_every_work_group_once(void **state)
{
    const fixture *f = *state;
    const hal_kernel_desc desc = {.key = "count",
                                  .code = HAL_CODE_NATIVE,
                                  .native = count_groups,
                                  .group_size = 1,
                                  .params_bytes = 12,
                                  .binding_count = 1,
                                  .access = {HAL_READ_WRITE},
                                  .element_bytes = {4}};
    static const uint32_t grids[][3] = {{1, 1, 1},   {2, 1, 1},  {7, 1, 1},    {5, 3, 2},     {1, 1, 25},
                                        {1, 999, 1}, {24, 1, 1}, {4099, 1, 1}, {100, 100, 3}, {1, 65535, 2}};
    hal_kernel *kernel;
    assert_int_equal(hal_kernel_create(f->device, &desc, &kernel), TSR_OK);
    for (size_t g = 0; g < sizeof grids / sizeof grids[0]; g++) {
        const size_t groups = (size_t)grids[g][0] * grids[g][1] * grids[g][2];
        hal_buffer *b = buffer_of(f, NULL, groups * 4);
        assert_int_equal(hal_buffer_fill(f->queue, b, 0, groups * 4, 0), TSR_OK);
        const hal_binding binding = {b, 0, groups * 4};
        const hal_launch launch = {.kernel = kernel,
                                   .grid = {grids[g][0], grids[g][1], grids[g][2]},
                                   .bindings = &binding,
                                   .binding_count = 1,
                                   .params = grids[g],
                                   .params_bytes = 12};
        assert_int_equal(hal_kernel_launch(f->queue, &launch), TSR_OK);
        uint32_t *visits = malloc(groups * 4);
        assert_int_equal(hal_buffer_read(f->queue, b, 0, visits, groups * 4), TSR_OK);
        for (size_t i = 0; i < groups; i++)
            assert_int_equal(visits[i], 1);
        free(visits);
        hal_buffer_free(b);
    }
    hal_kernel_destroy(kernel);
}

static void large_moves_and_fills(void **state)
{
    const fixture *f = *state;
    const size_t size = ((size_t)5 << 20) + 12;
    unsigned char *data = malloc(size), *back = malloc(size);
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 13);
    hal_buffer *x = buffer_of(f, data, size), *y = buffer_of(f, NULL, size);
    assert_int_equal(hal_buffer_copy(f->queue, x, 5, y, 3, size - 7), TSR_OK);
    assert_int_equal(hal_buffer_read(f->queue, y, 3, back, size - 7), TSR_OK);
    assert_memory_equal(back, data + 5, size - 7);

    assert_int_equal(hal_buffer_fill(f->queue, x, 4, size - 8, 0x01020304), TSR_OK);
    assert_int_equal(hal_buffer_read(f->queue, x, 0, back, size), TSR_OK);
    assert_memory_equal(back, data, 4);
    assert_memory_equal(back + size - 4, data + size - 4, 4);
    for (size_t i = 4; i < size - 4; i += 4) {
        uint32_t word;
        memcpy(&word, back + i, 4);
        assert_int_equal(word, 0x01020304);
    }
    hal_buffer_free(x);
    hal_buffer_free(y);
    free(data);
    free(back);
}

/* ---- 16-bit conversion ------------------------------------------------------------------------------------------- */

/* f16 by its definition. */
static double value_of_f16(uint16_t h)
{
    const int exponent = h >> 10 & 31, fraction = h & 1023;
    const double magnitude = exponent == 0    ? ldexp(fraction, -24)
                             : exponent == 31 ? (fraction != 0 ? (double)NAN : (double)INFINITY)
                                              : ldexp(1024 + fraction, exponent - 25);
    return h & 0x8000 ? -magnitude : magnitude;
}

static void converts_halves(void **state)
{
    (void)state;
    /* Sixteen of each, so that the vector path and the tail are both taken. */
    for (uint32_t h = 0; h < 0x10000; h++) {
        uint16_t in[9], out[9];
        float wide[9];
        for (int i = 0; i < 9; i++)
            in[i] = (uint16_t)h;
        for (int brain = 0; brain < 2; brain++) {
            half_widen(wide, in, 9, brain);
            half_narrow(out, wide, 9, brain);
            for (int i = 0; i < 9; i += 8) {
                if (!brain && isnan(value_of_f16((uint16_t)h)))
                    assert_true(isnan(wide[i]));
                else if (!brain)
                    assert_true((double)wide[i] == value_of_f16((uint16_t)h));
                if (isnan(wide[i]))
                    assert_int_equal(out[i], h | (brain ? 0x40 : 0x200)); /* quiet, otherwise the same */
                else
                    assert_int_equal(out[i], h);
            }
        }
    }

    /* Ties to even, and the ends: halfway values between neighbours a and b. */
    for (uint16_t h = 0; h < 0x7c00; h++) {
        const double a = value_of_f16(h), b = h == 0x7bff ? 65536 : value_of_f16((uint16_t)(h + 1)),
                     middle = (a + b) / 2;
        const float x[9] = {
            (float)middle, nextafterf((float)middle, 0), nextafterf((float)middle, 1e9f), (float)-middle, 0, 0, 0, 0,
            (float)middle};
        uint16_t y[9], tail[3];
        half_narrow(y, x, 9, false);
        const uint16_t even = (uint16_t)(h + (h & 1));
        half_narrow(tail, x, 3, false);
        for (int i = 0; i < 3; i++)
            assert_int_equal(tail[i], y[i]);
        assert_int_equal(y[0], even);
        assert_int_equal(y[8], even);
        assert_int_equal(y[1], h);
        assert_int_equal(y[2], h + 1);
        assert_int_equal(y[3], even | 0x8000);
    }
    const float ends[] = {3e38f, -1e6f, 1e-10f, -0.0f, 0x1.01p0f, 0x1.03p0f};
    uint16_t f16[6], bf16[6];
    half_narrow(f16, ends, 6, false);
    half_narrow(bf16, ends, 6, true);
    assert_int_equal(f16[0], 0x7c00);
    assert_int_equal(f16[1], 0xfc00);
    assert_int_equal(f16[2], 0);
    assert_int_equal(f16[3], 0x8000);
    assert_int_equal(bf16[0], 0x7f62);
    assert_int_equal(bf16[3], 0x8000);
    assert_int_equal(bf16[4], 0x3f80); /* a tie, to even */
    assert_int_equal(bf16[5], 0x3f82);
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

typedef struct product {
    const char *name;
    int m, n, k, batch, reduce;
    int pad;       /* added to every leading dimension */
    bool shared_b; /* one B for all batches */
    float alpha, beta;
} product;

static const product products[] = {
    {"one", 1, 1, 1, 1, 1, 0, false, 1, 0},
    {"row", 1, 37, 19, 1, 1, 0, false, 1, 0},
    {"column", 41, 1, 23, 1, 1, 3, false, 1, 0},
    {"odd", 33, 65, 129, 1, 1, 5, false, 2, 0},
    {"accumulate", 70, 50, 30, 1, 1, 0, false, 0.5f, 3},
    {"empty sum", 5, 7, 0, 2, 1, 1, false, 1, 2},
    {"empty sum cleared", 5, 7, 0, 1, 1, 0, false, 1, 0},
    {"batch", 17, 29, 31, 5, 1, 0, true, 1, 0},
    {"batch accumulate", 32, 196, 100, 6, 1, 2, false, 1, 1},
    {"reduce", 16, 25, 196, 1, 64, 0, false, 1, 0},
    {"reduce accumulate", 16, 25, 196, 2, 33, 1, false, 2, 1},
    {"long sum", 10, 12, 9000, 1, 1, 0, false, 1, 0},
    {"long sums", 10, 12, 5000, 1, 3, 4, false, 1, 1},
    {"tiles", 300, 530, 70, 1, 1, 0, false, 1, 0},
    {"high", 1100, 40, 40, 1, 2, 7, false, 1, 0},
    {"deep 16-bit panels", 20, 24, 1300, 9, 1, 1, false, 1, 0},
};

/* Operands in the device's dtype, and the same values as doubles. */
typedef struct operand {
    size_t count, element;
    double *value;
    void *stored;
} operand;

static operand make_operand(size_t count, uint32_t dtype, bool integers, uint32_t seed)
{
    operand o = {.count = count, .element = dtype == TSR_F64 ? 8 : dtype == TSR_F32 ? 4 : 2};
    o.value = malloc((count + 1) * sizeof *o.value);
    o.stored = malloc((count + 1) * o.element);
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        const float x =
            integers ? (float)((int)(seed >> 16) % 4 - 1) : (float)((int)(seed >> 8) % 20001 - 10000) / 8192;
        if (dtype == TSR_F64)
            ((double *)o.stored)[i] = o.value[i] = x;
        else if (dtype == TSR_F32)
            o.value[i] = ((float *)o.stored)[i] = x;
        else {
            float back;
            half_narrow((uint16_t *)o.stored + i, &x, 1, dtype == TSR_BF16);
            half_widen(&back, (uint16_t *)o.stored + i, 1, dtype == TSR_BF16);
            o.value[i] = back;
        }
    }
    return o;
}

static void free_operand(operand o)
{
    free(o.value);
    free(o.stored);
}

static double stored_value(const void *stored, uint32_t dtype, size_t i)
{
    float x;
    switch (dtype) {
    case TSR_F64: return ((const double *)stored)[i];
    case TSR_F32: return ((const float *)stored)[i];
    default: half_widen(&x, (const uint16_t *)stored + i, 1, dtype == TSR_BF16); return x;
    }
}

static hal_gemm describe(const product *p, uint32_t dtype, bool ta, bool tb)
{
    hal_gemm g = {.dtype = dtype,
                  .transpose_a = ta,
                  .transpose_b = tb,
                  .m = p->m,
                  .n = p->n,
                  .k = p->k,
                  .batch = p->batch,
                  .reduce = p->reduce,
                  .alpha = p->alpha,
                  .beta = p->beta};
    const int64_t rows_a = ta ? p->k : p->m, rows_b = tb ? p->n : p->k;
    g.lda = (ta ? p->m : p->k) + p->pad;
    g.ldb = (tb ? p->k : p->n) + p->pad;
    g.ldc = p->n + p->pad;
    g.reduce_stride_a = rows_a * g.lda;
    g.reduce_stride_b = rows_b * g.ldb;
    g.batch_stride_a = p->reduce * g.reduce_stride_a;
    g.batch_stride_b = p->shared_b ? 0 : p->reduce * g.reduce_stride_b;
    g.batch_stride_c = p->m * g.ldc + 3;
    return g;
}

/* The result's bytes, to free. */
static void *run_product(const fixture *f, hal_gemm g, operand a, operand b, operand c)
{
    /* Everything lies an element behind its buffer's start: unaligned, as views are. */
    hal_buffer *buffers[3];
    const operand *operands[3] = {&a, &b, &c};
    hal_binding *bindings[3] = {&g.a, &g.b, &g.c};
    for (int i = 0; i < 3; i++) {
        const size_t bytes = operands[i]->count * operands[i]->element;
        buffers[i] = buffer_of(f, NULL, bytes + 2 * operands[i]->element);
        assert_int_equal(hal_buffer_write(f->queue, buffers[i], operands[i]->element, operands[i]->stored, bytes),
                         TSR_OK);
        *bindings[i] = (hal_binding){buffers[i], operands[i]->element, bytes > 0 ? bytes : 1};
    }
    assert_int_equal(hal_gemm_run(f->queue, &g), TSR_OK);
    void *result = malloc(c.count * c.element);
    assert_int_equal(hal_buffer_read(f->queue, buffers[2], c.element, result, c.count * c.element), TSR_OK);
    for (int i = 0; i < 3; i++)
        hal_buffer_free(buffers[i]);
    return result;
}

static void check_product(const fixture *f, const product *p, uint32_t dtype, bool ta, bool tb, bool integers)
{
    const hal_gemm g = describe(p, dtype, ta, tb);
    const int64_t batches_b = p->shared_b ? 1 : p->batch;
    operand a = make_operand((size_t)(p->batch * g.batch_stride_a), dtype, integers, 1);
    operand b = make_operand((size_t)(batches_b * p->reduce * g.reduce_stride_b), dtype, integers, 2);
    operand c = make_operand((size_t)(p->batch * g.batch_stride_c), dtype, integers, 3);
    if (p->beta == 0) { /* old values must not matter */
        for (int64_t i = 0; i < p->batch; i++)
            for (int r = 0; r < p->m; r++)
                memset((char *)c.stored + (size_t)(i * g.batch_stride_c + r * g.ldc) * c.element, 0xff,
                       (size_t)p->n * c.element);
    }
    void *result = run_product(f, g, a, b, c);

    const double eps = dtype == TSR_F64 ? 0x1p-53 : 0x1p-24;
    const double store = dtype == TSR_F16 ? 0x1p-11 : dtype == TSR_BF16 ? 0x1p-8 : 0;
    for (int64_t i = 0; i < p->batch; i++) {
        for (int64_t y = 0; y < p->m; y++) {
            for (int64_t x = 0; x < p->n; x++) {
                double sum = 0, magnitude = 0;
                for (int64_t r = 0; r < p->reduce; r++) {
                    for (int64_t k = 0; k < p->k; k++) {
                        const double u = a.value[i * g.batch_stride_a + r * g.reduce_stride_a +
                                                 (ta ? k * g.lda + y : y * g.lda + k)];
                        const double v = b.value[i * g.batch_stride_b + r * g.reduce_stride_b +
                                                 (tb ? x * g.ldb + k : k * g.ldb + x)];
                        sum += u * v;
                        magnitude += fabs(u * v);
                    }
                }
                const int64_t at = i * g.batch_stride_c + y * g.ldc + x;
                const double old = p->beta != 0 ? (double)p->beta * c.value[at] : 0;
                const double expected = (double)p->alpha * sum + old;
                /* Summed one after the other at worst; then scaled, added and stored. */
                const double depth = (double)p->k * p->reduce + 4;
                const double bound = integers && store == 0
                                         ? 0
                                         : depth * eps * (fabs((double)p->alpha) * magnitude + fabs(old)) +
                                               store * fabs(expected) + (store > 0 ? 0x1p-24 : 0);
                const double error = fabs(stored_value(result, dtype, (size_t)at) - expected);
                if (!(error <= bound))
                    print_error("%s dtype %u %d%d%s [%d][%d][%d]: %g for %g, bound %g\n", p->name, (unsigned)dtype, ta,
                                tb, integers ? " integers" : "", (int)i, (int)y, (int)x,
                                stored_value(result, dtype, (size_t)at), expected, bound);
                assert_true(error <= bound);
            }
            for (int64_t x = p->n; x < g.ldc && (y + 1 < p->m || i + 1 < p->batch); x++) { /* the padding is not ours */
                const size_t at = (size_t)(i * g.batch_stride_c + y * g.ldc + x);
                assert_memory_equal((char *)result + at * c.element, (char *)c.stored + at * c.element, c.element);
            }
        }
    }
    free(result);
    free_operand(a);
    free_operand(b);
    free_operand(c);
}

static bool has_route(const fixture *f)
{
    if (hal_device_gemm_route(f->device) != NULL)
        return true;
    print_message("skipped: there is no OpenBLAS on this machine\n");
    return false;
}

static void products_agree(void **state)
{
    const fixture *f = *state;
    if (!has_route(f))
        skip();
    static const uint32_t dtypes[] = {TSR_F32, TSR_F64, TSR_F16, TSR_BF16};
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
        for (int d = 0; d < 4; d++) {
            for (int t = 0; t < 4; t++) {
                check_product(f, &products[i], dtypes[d], t & 1, t >> 1, true);
                check_product(f, &products[i], dtypes[d], t & 1, t >> 1, false);
            }
        }
    }
}

static void bits_do_not_depend_on_threads(void **state)
{
    if (!has_route(*state))
        skip();
    static const char *const threads[] = {"1", "2", "5"};
    static const product more = {"large", 520, 390, 300, 1, 1, 0, false, 1, 0};
    for (size_t i = 0; i <= sizeof products / sizeof products[0]; i++) {
        const product *p = i < sizeof products / sizeof products[0] ? &products[i] : &more;
        for (int d = 0; d < 2; d++) {
            const uint32_t dtype = d == 0 ? TSR_F32 : TSR_BF16;
            const hal_gemm g = describe(p, dtype, false, true);
            operand a = make_operand((size_t)(p->batch * g.batch_stride_a), dtype, false, 1);
            operand b = make_operand((size_t)(p->batch * p->reduce * g.reduce_stride_b), dtype, false, 2);
            operand c = make_operand((size_t)(p->batch * g.batch_stride_c), dtype, false, 3);
            void *results[3];
            for (int t = 0; t < 3; t++) {
                fixture other;
                open_with_threads(&other, threads[t]);
                results[t] = run_product(&other, g, a, b, c);
                close_device(&other);
            }
            assert_memory_equal(results[0], results[1], c.count * c.element);
            assert_memory_equal(results[0], results[2], c.count * c.element);
            for (int t = 0; t < 3; t++)
                free(results[t]);
            free_operand(a);
            free_operand(b);
            free_operand(c);
        }
    }
}

static void products_without_memory(void **state)
{
    const fixture *f = *state;
    if (!has_route(f))
        skip();
    hal_buffer *x = buffer_of(f, NULL, 1 << 20);
    assert_int_equal(hal_buffer_fill(f->queue, x, 0, 1 << 20, 0), TSR_OK);
    hal_binding all = {x, 0, 1 << 20};
    hal_gemm g = {.dtype = TSR_F16,
                  .m = 64,
                  .n = 64,
                  .k = 64,
                  .lda = 64,
                  .ldb = 64,
                  .ldc = 64,
                  .batch = 1,
                  .reduce = 1,
                  .alpha = 1,
                  .a = all,
                  .b = all,
                  .c = all};
    host_alloc_fail_after(0);
    tsr_status status = hal_gemm_run(f->queue, &g); /* scratch memory for the panels */
    host_alloc_fail_after(-1);
    assert_int_equal(status, TSR_OUT_OF_MEMORY);
    g.dtype = TSR_F32;
    g.m = g.n = 16;
    g.k = 8000;
    g.lda = 8000;
    g.ldb = 16;
    host_alloc_fail_after(0);
    status = hal_gemm_run(f->queue, &g); /* partial sums */
    host_alloc_fail_after(-1);
    assert_int_equal(status, TSR_OUT_OF_MEMORY);
    assert_int_equal(hal_gemm_run(f->queue, &g), TSR_OK);

    g.k = INT64_C(1) << 33; /* more than BLAS can be told, where the operands are short in memory */
    g.lda = 1;
    g.m = 1;
    assert_int_equal(hal_gemm_run(f->queue, &g), TSR_OUT_OF_RANGE);
    hal_buffer_free(x);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(says_what_it_is),
        TEST(memory_is_bounded),
        TEST(runs_every_work_group_once),
        TEST(large_moves_and_fills),
        TEST(converts_halves),
        TEST(products_agree),
        TEST(bits_do_not_depend_on_threads),
        TEST(products_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
