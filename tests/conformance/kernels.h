/* The HAL conformance suite: what kernels are given, and what is refused. */
#ifndef TESSERA_TESTS_CONFORMANCE_KERNELS_H
#define TESSERA_TESTS_CONFORMANCE_KERNELS_H

#include "conformance/bench.h"

static void element_types(bench *b)
{
    static const struct {
        const char *key;
        size_t size;
    } types[] = {{"selftest_copy/f32", 4}, {"selftest_copy/f16", 2}, {"selftest_copy/bf16", 2},
                 {"selftest_copy/f64", 8}, {"selftest_copy/i32", 4}, {"selftest_copy/i64", 8},
                 {"selftest_copy/u8", 1}};
    static const struct {
        size_t x_at, y_at; /* elements before the binding */
        uint32_t n, x_first, x_step, y_first, y_step;
    } rows[] = {
        {0, 0, 1, 0, 1, 0, 1},     {1, 0, 100, 0, 1, 0, 1},   {0, 1, 101, 0, 1, 0, 1},  {3, 5, 777, 0, 1, 0, 1},
        {7, 2, 4000, 2, 1, 3, 1},  {1, 1, 333, 1, 3, 0, 1},   {13, 3, 333, 0, 1, 2, 2}, {0, 0, 70000, 0, 1, 0, 1},
        {2, 31, 1000, 5, 2, 7, 5}, {63, 65, 129, 0, 1, 0, 1},
    };
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        const size_t size = types[t].size;
        hal_kernel *kernel = kernel_of(b, types[t].key);
        for (size_t r = 0; r < COUNT_OF(rows) && kernel != NULL; r++) {
            const size_t n = rows[r].n, x_need = rows[r].x_first + (n - 1) * rows[r].x_step + 1,
                         y_need = rows[r].y_first + (n - 1) * rows[r].y_step + 1;
            const size_t x_bytes = (rows[r].x_at + x_need) * size, y_bytes = (rows[r].y_at + y_need) * size;
            unsigned char *x = malloc(x_bytes), *y = malloc(y_bytes), *back;
            random_bytes(x, x_bytes, (uint32_t)(t * 100 + r));
            random_bytes(y, y_bytes, 9);
            /* No NaN and no subnormals, which drivers may change: the exponent's upper bits are 01. */
            for (size_t i = size - 1; size > 1 && i < x_bytes; i += size)
                x[i] = (unsigned char)((x[i] & 0x8f) | 0x30);
            hal_buffer *from = guarded_buffer(b, x_bytes), *to = guarded_buffer(b, y_bytes);
            OK(hal_buffer_write(b->queue, from, GUARD, x, x_bytes));
            OK(hal_buffer_write(b->queue, to, GUARD, y, y_bytes));
            const hal_binding bindings[] = {{from, GUARD + rows[r].x_at * size, x_need * size},
                                            {to, GUARD + rows[r].y_at * size, y_need * size}};
            const uint32_t params[] = {rows[r].n, 90, rows[r].x_first, rows[r].x_step, rows[r].y_first, rows[r].y_step};
            OK(launch_on(b->queue, kernel, (rows[r].n + 89) / 90, 1, 1, bindings, 2, params, sizeof params));
            for (size_t i = 0; i < n; i++)
                memcpy(y + (rows[r].y_at + rows[r].y_first + i * rows[r].y_step) * size,
                       x + (rows[r].x_at + rows[r].x_first + i * rows[r].x_step) * size, size);
            back = guarded_read(b, to, y_bytes);
            if (memcmp(back, y, y_bytes) != 0)
                print_error("%s: %s, row %zu\n", b->id, types[t].key, r);
            assert_memory_equal(back, y, y_bytes);
            free(back);
            back = guarded_read(b, from, x_bytes);
            assert_memory_equal(back, x, x_bytes);
            free(back);
            free(x);
            free(y);
            hal_buffer_free(from);
            hal_buffer_free(to);
        }
    }
}

static void grids(bench *b)
{
    static const uint32_t grid[][3] = {{1, 1, 1},    {7, 1, 1},    {1, 5, 1},     {1, 1, 3},
                                       {5, 3, 2},    {33, 17, 9},  {70000, 1, 1}, /* more than 65535 in x */
                                       {1, 3000, 1}, {1, 1, 3000}, {300, 2, 40}};
    hal_kernel *kernel = kernel_of(b, "selftest_grid/i32");
    for (size_t g = 0; g < COUNT_OF(grid); g++) {
        const uint32_t nx = grid[g][0], ny = grid[g][1], nz = grid[g][2];
        const size_t bytes = (size_t)nx * ny * nz * 4;
        hal_buffer *buffer = guarded_buffer(b, bytes);
        const uint32_t params[] = {nx, ny};
        const hal_binding binding = {buffer, GUARD, bytes};
        OK(launch_on(b->queue, kernel, nx, ny, nz, &binding, 1, params, sizeof params));
        unsigned char *back = guarded_read(b, buffer, bytes);
        for (uint32_t z = 0; z < nz; z++) {
            for (uint32_t y = 0; y < ny; y++) {
                for (uint32_t x = 0; x < nx; x++) {
                    uint32_t word;
                    memcpy(&word, back + (((size_t)z * ny + y) * nx + x) * 4, 4);
                    assert_int_equal(word, x + 1000 * y + 1000000 * z);
                }
            }
        }
        free(back);
        hal_buffer_free(buffer);
    }
}

static void parameters(bench *b)
{
    static const struct {
        const char *key;
        uint32_t count;
    } rows[] = {{"selftest_params_1/i32", 1},   {"selftest_params_2/i32", 2},   {"selftest_params_3/i32", 3},
                {"selftest_params_4/i32", 4},   {"selftest_params_5/i32", 5},   {"selftest_params_8/i32", 8},
                {"selftest_params_15/i32", 15}, {"selftest_params_16/i32", 16}, {"selftest_params_17/i32", 17},
                {"selftest_params_27/i32", 27}, {"selftest_params_28/i32", 28}};
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        const size_t bytes = rows[r].count * 4;
        hal_kernel *kernel = kernel_of(b, rows[r].key);
        hal_buffer *buffer = guarded_buffer(b, 2 * bytes);
        unsigned char params[HAL_MAX_PARAMS], expected[2 * HAL_MAX_PARAMS], *back;
        /* Twice, with other values: the parameters of a launch that is queued are its own. */
        for (uint32_t round = 0; round < 2; round++) {
            random_bytes(params, bytes, r + 50 * round);
            memcpy(expected + round * bytes, params, bytes);
            const hal_binding binding = {buffer, GUARD + round * bytes, bytes};
            OK(launch_on(b->queue, kernel, 1, 1, 1, &binding, 1, params, (uint32_t)bytes));
            memset(params, 0, sizeof params);
        }
        back = guarded_read(b, buffer, 2 * bytes);
        assert_memory_equal(back, expected, 2 * bytes);
        free(back);
        hal_buffer_free(buffer);
    }
}

static void eight_bindings(bench *b)
{
    enum { N = 500 };
    hal_kernel *kernel = kernel_of(b, "selftest_eight/i32");
    /* Eight buffers, then eight parts of one. */
    for (int shared = 0; shared < 2; shared++) {
        hal_buffer *buffers[8], *one = guarded_buffer(b, 8 * (N + 11) * 4);
        hal_binding bindings[8];
        uint32_t values[7][N], sum[N], back[N];
        memset(sum, 0, sizeof sum);
        for (size_t i = 0; i < 8; i++) {
            buffers[i] = guarded_buffer(b, (N + 11) * 4);
            bindings[i] = shared ? (hal_binding){one, GUARD + (i * (N + 11) + i) * 4, sizeof sum}
                                 : (hal_binding){buffers[i], GUARD + (i + 1) * 4, sizeof sum};
            for (uint32_t j = 0; j < N && i < 7; j++) {
                values[i][j] = (uint32_t)(i * 1000 + j * 7);
                sum[j] += values[i][j] << i;
            }
            if (i < 7)
                OK(hal_buffer_write(b->queue, bindings[i].buffer, bindings[i].offset, values[i], sizeof values[i]));
        }
        const uint32_t n = N;
        OK(launch_on(b->queue, kernel, 1, 1, 1, bindings, 8, &n, sizeof n));
        OK(hal_buffer_read(b->queue, bindings[7].buffer, bindings[7].offset, back, sizeof back));
        assert_memory_equal(back, sum, sizeof sum);
        for (size_t i = 0; i < 8; i++) {
            free(guarded_read(b, buffers[i], (N + 11) * 4));
            hal_buffer_free(buffers[i]);
        }
        free(guarded_read(b, one, 8 * (N + 11) * 4));
        hal_buffer_free(one);
    }
}

static void group_memory(bench *b)
{
    hal_kernel *kernel = kernel_of(b, "selftest_reverse/i32");
    enum { GROUPS = 100 };
    for (uint32_t n = 1; n <= 64; n += 21) {
        uint32_t x[GROUPS * 64], y[GROUPS * 64];
        for (uint32_t i = 0; i < GROUPS * 64; i++)
            x[i] = i * 3 + n;
        hal_buffer *from = device_buffer(b, sizeof x), *to = device_buffer(b, sizeof y);
        OK(hal_buffer_write(b->queue, from, 0, x, sizeof x));
        OK(hal_buffer_fill(b->queue, to, 0, sizeof y, 12345));
        const hal_binding bindings[] = {{from, 0, sizeof x}, {to, 0, sizeof y}};
        OK(launch_on(b->queue, kernel, GROUPS, 1, 1, bindings, 2, &n, sizeof n));
        OK(hal_buffer_read(b->queue, to, 0, y, sizeof y));
        for (uint32_t i = 0; i < GROUPS * 64; i++)
            assert_int_equal(y[i], i % 64 < n ? x[i - i % 64 + n - 1 - i % 64] : 12345);
        hal_buffer_free(from);
        hal_buffer_free(to);
    }
}

static void bad_launches(bench *b)
{
    hal_kernel *kernel = kernel_of(b, "selftest_step/i32");
    hal_buffer *buffer = device_buffer(b, 1024), *host;
    OK(hal_buffer_alloc(b->device, HAL_MEMORY_HOST, 1024, &host));
    OK(hal_buffer_fill(b->queue, buffer, 0, 1024, 7));
    const uint32_t params[] = {256, 256, 1};
    const hal_binding good = {buffer, 0, 1024}, past = {buffer, 8, 1024}, crooked = {buffer, 2, 1000},
                      empty = {buffer, 0, 0}, none = {NULL, 0, 4}, pinned = {host, 0, 1024};
    hal_queue *q = b->queue;
    assert_int_equal(launch_on(q, kernel, 1, 1, 1, &good, 0, params, 12), TSR_INVALID_ARGUMENT);
    assert_int_equal(launch_on(q, kernel, 1, 1, 1, &good, 2, params, 12), TSR_INVALID_ARGUMENT);
    assert_int_equal(launch_on(q, kernel, 1, 1, 1, &good, 1, params, 8), TSR_INVALID_ARGUMENT);
    assert_int_equal(launch_on(q, kernel, 1, 1, 1, &good, 1, params, 16), TSR_INVALID_ARGUMENT);
    assert_int_equal(launch_on(q, kernel, 1, 1, 1, &good, 1, NULL, 12), TSR_INVALID_ARGUMENT);
    assert_int_equal(launch_on(q, kernel, 1, 1, 1, NULL, 1, params, 12), TSR_INVALID_ARGUMENT);
    assert_int_equal(launch_on(q, NULL, 1, 1, 1, &good, 1, params, 12), TSR_INVALID_ARGUMENT);
    assert_int_equal(launch_on(q, kernel, 0, 1, 1, &good, 1, params, 12), TSR_OUT_OF_RANGE);
    assert_int_equal(launch_on(q, kernel, 1, 65536, 1, &good, 1, params, 12), TSR_OUT_OF_RANGE);
    assert_int_equal(launch_on(q, kernel, 1, 1, 1, &past, 1, params, 12), TSR_OUT_OF_RANGE);
    assert_int_equal(launch_on(q, kernel, 1, 1, 1, &crooked, 1, params, 12), TSR_INVALID_ARGUMENT);
    assert_int_equal(launch_on(q, kernel, 1, 1, 1, &empty, 1, params, 12), TSR_INVALID_ARGUMENT);
    assert_int_equal(launch_on(q, kernel, 1, 1, 1, &none, 1, params, 12), TSR_INVALID_ARGUMENT);
    assert_int_equal(launch_on(q, kernel, 1, 1, 1, &pinned, 1, params, 12), TSR_INVALID_ARGUMENT);
    OK(launch_on(q, kernel, 1, 1, 1, &good, 1, params, 12));
    expect_words(b, buffer, 256, stepped(7, 1)); /* once, by the good one */
    hal_buffer_free(buffer);
    hal_buffer_free(host);
}

static void broken_kernels(bench *b)
{
    if (b->device->info.code != HAL_CODE_SOURCE)
        return; /* the other forms were checked when they were built */
    static const char *const text[] = {"this is no kernel {{{\n"};
    const hal_kernel_desc desc = {.key = "broken/f32",
                                  .entry = "broken",
                                  .variant = "gpu",
                                  .code = HAL_CODE_SOURCE,
                                  .source = text,
                                  .source_count = 1,
                                  .group_size = 64,
                                  .params_bytes = 4,
                                  .binding_count = 1,
                                  .access = {HAL_READ},
                                  .element_bytes = {4}};
    hal_kernel *kernel;
    const tsr_status status = hal_kernel_create(b->device, &desc, &kernel);
    assert_true(status != TSR_OK && status != TSR_DEVICE_LOST);
    assert_null(kernel);
    assert_non_null(strstr(tsr_last_error(), "broken"));
    OK(hal_device_status(b->device));
}

#endif
