/* Products by OpenBLAS, each call single-threaded, with the work cut up by the device's own thread pool.
 *
 * The cut depends on the shape alone, so that the bits of the result do not depend on the number of threads: C is cut into
 * tiles, and where these are few and the sums long, the sums into groups whose partial results are added in order. */
#include "backends/cpu/cpu.h"
#include "backends/cpu/cpu_half.h"
#include "backends/cpu/openblas.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "tessera/tensor.h"

#include <limits.h>
#include <string.h>

/* A tile is at most so wide and high: the panels of 16-bit operands are widened into scratch memory of this order. */
#define TILE_MOST 512
/* A product is halved until there are this many tasks, unless its tiles become smaller than TILE_GOOD, below which
 * OpenBLAS repacks its operands too often (256: 0.99 of the speed of the whole, 128: 0.94, at 1024^3) ... */
#define TASKS_GOOD 64
#define TILE_GOOD  256
/* ... or, while there are fewer tasks than this, unless one becomes so short that starting it costs too much. */
#define TASKS_LEAST      8
#define TILE_LEAST       32
#define TASK_FLOPS_LEAST 5e5
/* Tile edges are multiples of what OpenBLAS's inner kernels compute at a time. */
#define TILE_STEP 16
/* A smaller C with many products to sum is not cut into tiles, which would each pack the operands again, but by the sum. */
#define SMALL_C 65536
/* Pieces of one long sum have at least this many terms. */
#define SUM_PIECE 1024
/* So many terms of 16-bit operands are widened at a time. */
#define PANEL_DEPTH 512

typedef struct scratch {
    float *data;
    size_t count;
} scratch;

struct cpu_gemm {
    const openblas *blas;
    thread_pool *pool;
    mutex lock; /* one product at a time: they would only wait for each other's threads */
    scratch *workers;
    scratch partial;
};

/* How a product is cut. */
typedef struct plan {
    const hal_gemm *g;
    const struct cpu_gemm *gemm;
    int64_t tile_m, tile_n, tiles_m, tiles_n;
    int64_t pieces; /* of each sum over k, of piece_k terms */
    int64_t piece_k;
    int64_t groups;         /* of the reduce * pieces products that are added into one C */
    unsigned char *partial; /* [batch][groups][m][n] of f32 or f64, if groups > 1 */
    size_t real_bytes;
    unsigned char *a, *b, *c;
    size_t element;
    atomic_bool out_of_memory;
} plan;

/* ---- scratch memory -------------------------------------------------------------------------------------------- */

static float *scratch_reserve(scratch *s, size_t count)
{
    if (s->count < count) {
        host_free_aligned(s->data);
        s->count = 0;
        s->data = count <= SIZE_MAX / sizeof(float) ? host_alloc_aligned(count * sizeof(float), CPU_ALIGNMENT) : NULL;
        if (s->data != NULL)
            s->count = count;
    }
    return s->data;
}

struct cpu_gemm *cpu_gemm_create(thread_pool *pool)
{
    const openblas *blas = openblas_get();
    if (blas == NULL)
        return NULL;
    struct cpu_gemm *gemm = host_alloc_zeroed(1, sizeof *gemm);
    scratch *workers = host_alloc_zeroed((size_t)thread_pool_size(pool), sizeof *workers);
    if (gemm == NULL || workers == NULL) {
        host_free(gemm);
        host_free(workers);
        return NULL;
    }
    *gemm = (struct cpu_gemm){.blas = blas, .pool = pool, .workers = workers};
    mutex_init(&gemm->lock);
    return gemm;
}

void cpu_gemm_destroy(struct cpu_gemm *gemm)
{
    if (gemm == NULL)
        return;
    for (int i = 0; i < thread_pool_size(gemm->pool); i++)
        host_free_aligned(gemm->workers[i].data);
    host_free(gemm->workers);
    host_free_aligned(gemm->partial.data);
    mutex_destroy(&gemm->lock);
    host_free(gemm);
}

const char *cpu_gemm_route(hal_device *device)
{
    const struct cpu_gemm *gemm = ((cpu_device *)device)->gemm;
    return gemm != NULL ? gemm->blas->name : NULL;
}

/* ---- the cut --------------------------------------------------------------------------------------------------- */

static int64_t div_up(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

/* Halves the longer edge, so that both halves are whole steps and nearly equal. */
static void halve(int64_t *tile_m, int64_t *tile_n)
{
    int64_t *edge = *tile_m >= *tile_n ? tile_m : tile_n;
    *edge = div_up(div_up(*edge, 2), TILE_STEP) * TILE_STEP;
}

static void plan_tiles(plan *p)
{
    const hal_gemm *g = p->g;
    const double depth = 2.0 * (double)g->k * (double)g->reduce;
    p->tile_m = g->m;
    p->tile_n = g->n;
    for (;;) {
        p->tiles_m = div_up(g->m, p->tile_m);
        p->tiles_n = div_up(g->n, p->tile_n);
        const double tasks = (double)g->batch * (double)p->tiles_m * (double)p->tiles_n;
        const double flops = depth * (double)p->tile_m * (double)p->tile_n;
        const int64_t edge = p->tile_m > p->tile_n ? p->tile_m : p->tile_n;
        const bool too_large = edge > TILE_MOST;
        const bool large = tasks < TASKS_GOOD && edge >= 2 * TILE_GOOD;
        const bool by_sums = g->reduce >= TASKS_LEAST && p->tile_m * p->tile_n <= SMALL_C;
        const bool few = tasks < TASKS_LEAST && !by_sums && edge >= 2 * TILE_LEAST && flops >= 2 * TASK_FLOPS_LEAST;
        if (!too_large && !large && !few)
            return;
        halve(&p->tile_m, &p->tile_n);
    }
}

static void plan_sums(plan *p)
{
    const hal_gemm *g = p->g;
    p->pieces = 1;
    p->piece_k = g->k;
    p->groups = 1;

    const double tasks = (double)g->batch * (double)p->tiles_m * (double)p->tiles_n;
    const double flops = 2.0 * (double)g->k * (double)g->reduce * (double)p->tile_m * (double)p->tile_n;
    if (2 * tasks > TASKS_LEAST || flops < 4 * TASK_FLOPS_LEAST)
        return;
    const int64_t by_cost = (int64_t)(flops / (2 * TASK_FLOPS_LEAST));
    const int64_t wanted = min_i64(TASKS_LEAST / (int64_t)tasks, by_cost);
    if (g->reduce < wanted) {
        p->pieces = max_i64(min_i64(wanted, g->k / SUM_PIECE), 1);
        p->piece_k = div_up(g->k, p->pieces);
        p->pieces = div_up(g->k, p->piece_k);
    }
    p->groups = min_i64(wanted, g->reduce * p->pieces);
}

/* ---- one task -------------------------------------------------------------------------------------------------- */

/* Rows [row, row + rows) and columns of one batch's C. */
typedef struct tile {
    int64_t batch, row, column, rows, columns;
} tile;

/* One operand's stored rectangle that a product of a tile reads: its first element and its leading dimension. */
typedef struct rectangle {
    const unsigned char *first;
    int64_t rows, columns, stride;
} rectangle;

static rectangle rectangle_of(const unsigned char *base, size_t element, int64_t start, bool transposed, int64_t stride,
                              int64_t row, int64_t rows, int64_t column, int64_t columns)
{
    const int64_t r = transposed ? column : row, c = transposed ? row : column;
    return (rectangle){.first = base + (size_t)(start + r * stride + c) * element,
                       .rows = transposed ? columns : rows,
                       .columns = transposed ? rows : columns,
                       .stride = stride};
}

/* A stride that BLAS accepts even where there is one row and so none is needed. */
static int blas_stride(int64_t stride, int64_t columns)
{
    return (int)max_i64(max_i64(stride, columns), 1);
}

static int blas_transpose(bool transposed)
{
    return transposed ? BLAS_TRANSPOSE : BLAS_NO_TRANSPOSE;
}

static void widen(float *to, rectangle from, bool brain)
{
    for (int64_t r = 0; r < from.rows; r++)
        half_widen(to + r * from.columns, (const uint16_t *)(const void *)(from.first) + r * from.stride,
                   (size_t)from.columns, brain);
}

/* target = alpha * op(A) op(B) + beta * target over `depth` terms, for 16-bit operands and an f32 target. */
static void product_16(const plan *p, const tile *t, rectangle a, rectangle b, int64_t depth, float alpha, float beta,
                       float *target, int64_t stride, float *panels)
{
    const hal_gemm *g = p->g;
    const bool brain = g->dtype == TSR_BF16;
    for (int64_t done = 0; done < depth; done += PANEL_DEPTH) {
        const int64_t now = min_i64(PANEL_DEPTH, depth - done);
        rectangle a_now = a, b_now = b;
        *(g->transpose_a ? &a_now.rows : &a_now.columns) = now;
        *(g->transpose_b ? &b_now.columns : &b_now.rows) = now;
        a_now.first += (size_t)(g->transpose_a ? done * a.stride : done) * 2;
        b_now.first += (size_t)(g->transpose_b ? done : done * b.stride) * 2;

        float *wide_a = panels, *wide_b = panels + t->rows * PANEL_DEPTH;
        widen(wide_a, a_now, brain);
        widen(wide_b, b_now, brain);
        p->gemm->blas->sgemm(BLAS_ROW_MAJOR, blas_transpose(g->transpose_a), blas_transpose(g->transpose_b),
                             (int)t->rows, (int)t->columns, (int)now, alpha, wide_a, (int)a_now.columns, wide_b,
                             (int)b_now.columns, done == 0 ? beta : 1, target, blas_stride(stride, t->columns));
    }
}

/* target = alpha * (products first ... end - 1 of the sum) + beta * target; f32, or f64 for f64 operands. */
static void sum_products(const plan *p, const tile *t, int64_t first, int64_t end, float alpha, float beta,
                         void *target, int64_t stride, float *panels)
{
    const hal_gemm *g = p->g;
    const openblas *blas = p->gemm->blas;
    for (int64_t i = first; i < end; i++) {
        const int64_t r = i / p->pieces, from = i % p->pieces * p->piece_k, depth = min_i64(p->piece_k, g->k - from);
        const rectangle a = rectangle_of(p->a, p->element, t->batch * g->batch_stride_a + r * g->reduce_stride_a,
                                         g->transpose_a, g->lda, t->row, t->rows, from, depth);
        const rectangle b = rectangle_of(p->b, p->element, t->batch * g->batch_stride_b + r * g->reduce_stride_b,
                                         g->transpose_b, g->ldb, from, depth, t->column, t->columns);
        const float scale = i == first ? beta : 1;
        const int lda = blas_stride(a.stride, a.columns), ldb = blas_stride(b.stride, b.columns);
        if (g->dtype == TSR_F32)
            blas->sgemm(BLAS_ROW_MAJOR, blas_transpose(g->transpose_a), blas_transpose(g->transpose_b), (int)t->rows,
                        (int)t->columns, (int)depth, alpha, (const float *)(const void *)a.first, lda,
                        (const float *)(const void *)b.first, ldb, scale, target, blas_stride(stride, t->columns));
        else if (g->dtype == TSR_F64)
            blas->dgemm(BLAS_ROW_MAJOR, blas_transpose(g->transpose_a), blas_transpose(g->transpose_b), (int)t->rows,
                        (int)t->columns, (int)depth, alpha, (const double *)(const void *)a.first, lda,
                        (const double *)(const void *)b.first, ldb, scale, target, blas_stride(stride, t->columns));
        else
            product_16(p, t, a, b, depth, alpha, scale, target, stride, panels);
    }
}

static size_t c_offset(const plan *p, const tile *t)
{
    const hal_gemm *g = p->g;
    return (size_t)(t->batch * g->batch_stride_c + t->row * g->ldc + t->column) * p->element;
}

static bool is_16(const hal_gemm *g)
{
    return g->dtype == TSR_F16 || g->dtype == TSR_BF16;
}

/* A row of C = alpha * row + beta * C, for 16-bit C; changes `row`. */
static void store_row_16(const hal_gemm *g, uint16_t *c, float *row, int64_t columns)
{
    const bool brain = g->dtype == TSR_BF16, accumulates = g->beta != 0;
    float old[64];
    for (int64_t i = 0; i < columns; i += (int64_t)COUNT_OF(old)) {
        const int64_t now = min_i64((int64_t)COUNT_OF(old), columns - i);
        if (accumulates)
            half_widen(old, c + i, (size_t)now, brain);
        for (int64_t j = 0; j < now; j++)
            row[i + j] = g->alpha * row[i + j] + (accumulates ? g->beta * old[j] : 0);
        half_narrow(c + i, row + i, (size_t)now, brain);
    }
}

static void gemm_task(void *context, size_t index, int worker)
{
    plan *p = context;
    const hal_gemm *g = p->g;
    const int64_t i = (int64_t)index, group = i % p->groups, cell = i / p->groups;
    const int64_t tiles = p->tiles_m * p->tiles_n, place = cell % tiles;
    tile t = {.batch = cell / tiles, .row = place / p->tiles_n * p->tile_m, .column = place % p->tiles_n * p->tile_n};
    t.rows = min_i64(p->tile_m, g->m - t.row);
    t.columns = min_i64(p->tile_n, g->n - t.column);

    float *panels = NULL;
    if (is_16(g)) { /* the two panels and the tile in f32 */
        const size_t count = (size_t)((t.rows + t.columns) * PANEL_DEPTH + t.rows * t.columns);
        panels = scratch_reserve(&p->gemm->workers[worker], count);
        if (panels == NULL) {
            atomic_store(&p->out_of_memory, true);
            return;
        }
    }

    const int64_t products = g->reduce * p->pieces;
    const int64_t first = products * group / p->groups, end = products * (group + 1) / p->groups;
    if (p->groups > 1) {
        const size_t start = (size_t)(((t.batch * p->groups + group) * g->m + t.row) * g->n + t.column);
        sum_products(p, &t, first, end, 1, 0, p->partial + start * p->real_bytes, g->n, panels);
    } else if (!is_16(g)) {
        sum_products(p, &t, first, end, g->alpha, g->beta, p->c + c_offset(p, &t), g->ldc, panels);
    } else {
        float *sum = panels + (t.rows + t.columns) * PANEL_DEPTH;
        sum_products(p, &t, first, end, 1, 0, sum, t.columns, panels);
        uint16_t *c = (uint16_t *)(void *)(p->c + c_offset(p, &t));
        for (int64_t r = 0; r < t.rows; r++)
            store_row_16(g, c + r * g->ldc, sum + r * t.columns, t.columns);
    }
}

/* A row of C from the partial sums of all groups, which are added in order. Without groups the sum is empty. */
static void combine_task(void *context, size_t index, int worker)
{
    const plan *p = context;
    const hal_gemm *g = p->g;
    (void)worker;
    const tile t = {.batch = (int64_t)index / g->m, .row = (int64_t)index % g->m, .column = 0};
    unsigned char *c = p->c + c_offset(p, &t);
    const size_t group_bytes = (size_t)(g->m * g->n) * p->real_bytes;
    unsigned char *sum =
        p->partial + (size_t)(t.batch * p->groups) * group_bytes + (size_t)(t.row * g->n) * p->real_bytes;

    if (g->dtype == TSR_F64) {
        double *total = (double *)(void *)sum, *out = (double *)(void *)c;
        for (int64_t k = 1; k < p->groups; k++) {
            const double *next = (const double *)(const void *)(sum + (size_t)k * group_bytes);
            for (int64_t i = 0; i < g->n; i++)
                total[i] += next[i];
        }
        for (int64_t i = 0; i < g->n; i++)
            out[i] = (double)g->alpha * total[i] + (g->beta != 0 ? (double)g->beta * out[i] : 0);
        return;
    }

    float *total = (float *)(void *)sum, *out = (float *)(void *)c;
    for (int64_t k = 1; k < p->groups; k++) {
        const float *next = (const float *)(const void *)(sum + (size_t)k * group_bytes);
        for (int64_t i = 0; i < g->n; i++)
            total[i] += next[i];
    }
    if (is_16(g)) {
        store_row_16(g, (uint16_t *)(void *)c, total, g->n);
    } else {
        for (int64_t i = 0; i < g->n; i++)
            out[i] = g->alpha * total[i] + (g->beta != 0 ? g->beta * out[i] : 0);
    }
}

/* ---- the product ----------------------------------------------------------------------------------------------- */

static tsr_status reserve_partial(struct cpu_gemm *gemm, plan *p, bool zeroed)
{
    const hal_gemm *g = p->g;
    size_t count;
    if (!checked_mul_size((size_t)(g->m * g->n), (size_t)(g->batch * p->groups), &count) ||
        !checked_mul_size(count, p->real_bytes / sizeof(float), &count) ||
        scratch_reserve(&gemm->partial, count) == NULL)
        return fail(TSR_OUT_OF_MEMORY, "no memory for the partial sums of a product of %lld x %lld", (long long)g->m,
                    (long long)g->n);
    if (zeroed)
        memset(gemm->partial.data, 0, count * sizeof(float));
    p->partial = (unsigned char *)gemm->partial.data;
    return TSR_OK;
}

static tsr_status run_plan(struct cpu_gemm *gemm, plan *p)
{
    const hal_gemm *g = p->g;
    tsr_status status = TSR_OK;
    const bool empty_sum = g->k == 0;
    if (empty_sum)
        p->groups = 1;
    else
        plan_tiles(p), plan_sums(p);

    if (p->groups > 1 || empty_sum)
        status = reserve_partial(gemm, p, empty_sum);
    if (status != TSR_OK)
        return status;
    if (!empty_sum)
        thread_pool_run(gemm->pool, gemm_task, p, (size_t)(g->batch * p->tiles_m * p->tiles_n * p->groups));
    if (atomic_load(&p->out_of_memory))
        return fail(TSR_OUT_OF_MEMORY, "no memory to widen the operands of a product of %lld x %lld x %lld",
                    (long long)g->m, (long long)g->n, (long long)g->k);
    if (p->partial != NULL)
        thread_pool_run(gemm->pool, combine_task, p, (size_t)(g->batch * g->m));
    return TSR_OK;
}

static bool fits_blas(const hal_gemm *g)
{
    return g->m <= INT_MAX && g->n <= INT_MAX && g->k <= INT_MAX && g->lda <= INT_MAX && g->ldb <= INT_MAX &&
           g->ldc <= INT_MAX;
}

tsr_status cpu_gemm(hal_queue *queue, const hal_gemm *g)
{
    cpu_device *device = cpu_device_of(queue);
    struct cpu_gemm *gemm = device->gemm;
    tsr_status status = cpu_check(device);
    if (status != TSR_OK)
        return status;
    if (gemm == NULL || !fits_blas(g))
        return TSR_UNSUPPORTED;

    plan p = {.g = g,
              .gemm = gemm,
              .real_bytes = g->dtype == TSR_F64 ? sizeof(double) : sizeof(float),
              .element = g->dtype == TSR_F64   ? 8
                         : g->dtype == TSR_F32 ? 4
                                               : 2,
              .c = cpu_address(&g->c)};
    if (g->k > 0) {
        p.a = cpu_address(&g->a);
        p.b = cpu_address(&g->b);
    }

    mutex_lock(&gemm->lock);
    /* The setting is the process's. Another user of the library may have changed it, and its threads beside ours would
     * make everything slower. */
    if (gemm->blas->get_num_threads() != 1)
        gemm->blas->set_num_threads(1);
    status = run_plan(gemm, &p);
    mutex_unlock(&gemm->lock);
    return status;
}
