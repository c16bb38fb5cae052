#include "mxu/product.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "dispatch/catalogue.h"
#include "mxu/rows.h"
#include "tensor/device.h"

enum {
    BLOCK = 64, /* of C, in product_tile */
    GRID_YZ = 65535,
    PANEL = 64,                /* columns */
    PACK_ROWS = 96,            /* rows of A over which packing B pays ... */
    PACK_ELEMENTS = 512 << 10, /* ... if it has so many: it leaves the second cache */
    PACK_COLUMNS = 256,
    DEPTH_MOST =
        4096, /* terms that product_rows sums in one go: a longer sum is added up in parts, for its error's sake */
};

enum { TILE_ACCUMULATE = 1, TILE_BIAS_ROWS = 2, TILE_BIAS_COLS = 4 }; /* as in the kernel */

static int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

bool product_takes(tsr_device *device, tsr_dtype dtype, int64_t k)
{
    return device_variant(device) == HAL_CLASS_GPU || dtype == TSR_F32 || dtype == TSR_F64 ||
           (k > 0 && product_prefers_vendor(device));
}

/* A library that is older than the processor falls back to narrower vectors; the generic kernel, which reaches about 0.9 of
 * a library that knows the processor, is then much faster (1.6 times, AVX-512 to AVX2). */
static bool is_narrow(const hal_device *device)
{
    static const uint32_t widths[ISA_COUNT] = {16, 32, 64};
    return device->info.code == HAL_CODE_NATIVE && device->info.gemm_vector_bytes != 0 &&
           device->info.gemm_vector_bytes < widths[catalogue_isa()];
}

bool product_prefers_vendor(tsr_device *device)
{
    const hal_backend *backend = device->hal->backend;
    if (backend->gemm == NULL || backend->gemm_route == NULL || backend->gemm_route(device->hal) == NULL)
        return false;
    const char *wish = getenv("TESSERA_PRODUCT");
    if (wish != NULL && (strcmp(wish, "generic") == 0 || strcmp(wish, "vendor") == 0))
        return wish[0] == 'v';
    return !is_narrow(device->hal);
}

static bool unsupported(const char *what, int64_t n)
{
    fail(TSR_UNSUPPORTED, "product: a %s of %lld; the generic kernel counts to 2^32", what, (long long)n);
    return false;
}

/* ---- the backend's own route ------------------------------------------------------------------------------------- */

/* A stored matrix as hal_gemm describes it. False if neither direction is contiguous. */
static bool leading(const product_matrix *x, int64_t rows, int64_t cols, bool *transposed, int64_t *ld)
{
    if (x->col == 1 || cols == 1) {
        *transposed = false;
        *ld = rows == 1 || x->row < cols ? cols : x->row;
        return x->row >= cols || rows == 1;
    }
    *transposed = true;
    *ld = cols == 1 || x->col < rows ? rows : x->col;
    return (x->row == 1 || rows == 1) && (x->col >= rows || cols == 1);
}

static hal_binding advanced(hal_binding b, int64_t elements, size_t size)
{
    b.offset += (size_t)elements * size;
    b.length -= (size_t)elements * size;
    return b;
}

/* Whether batches (i, j) of x lie at equal distances when counted through. */
static bool one_stride(const product_matrix *x, int64_t inner)
{
    return x->outer == inner * x->inner;
}

static bool spread_bias(tsr_device *device, const product *p)
{
    const struct {
        uint32_t rows, cols, ldc, inner, c_outer, c_inner, along_rows;
    } q = {(uint32_t)p->m,
           (uint32_t)p->n,
           (uint32_t)p->c.row,
           (uint32_t)p->inner,
           (uint32_t)p->c.outer,
           (uint32_t)p->c.inner,
           p->bias_along == PRODUCT_BIAS_ROWS};
    const int64_t step = GRID_YZ / p->inner;
    if (p->m > GRID_YZ) /* rows go through y */
        return unsupported("bias over rows", p->m);
    for (int64_t first = 0; first < p->outer; first += step) {
        const int64_t now = p->outer - first < step ? p->outer - first : step;
        const hal_binding c = advanced(p->c.at, first * p->c.outer, tsr_dtype_size(p->dtype));
        if (!LAUNCH(device, key_of("bias_spread", p->dtype), ((grid){1, (uint32_t)p->m, (uint32_t)(now * p->inner)}),
                    &q, p->bias, c))
            return false;
    }
    return true;
}

/* TSR_UNSUPPORTED, with nothing queued and no message, where the backend has no route for it. */
static tsr_status run_vendor(tsr_device *device, const product *p)
{
    hal_gemm g = {.dtype = p->dtype,
                  .m = p->m,
                  .n = p->n,
                  .k = p->k,
                  .reduce = p->reduce,
                  .reduce_stride_a = p->a.reduce,
                  .reduce_stride_b = p->b.reduce,
                  .ldc = p->c.row,
                  .alpha = 1,
                  .beta = p->accumulate || p->bias_along != PRODUCT_NO_BIAS ? 1 : 0,
                  .a = p->a.at,
                  .b = p->b.at,
                  .c = p->c.at};
    if (!product_prefers_vendor(device) || p->k == 0 ||
        (p->bias_along != PRODUCT_NO_BIAS && (p->m > GRID_YZ || p->inner > GRID_YZ)) ||
        !leading(&p->a, p->m, p->k, &g.transpose_a, &g.lda) || !leading(&p->b, p->k, p->n, &g.transpose_b, &g.ldb))
        return TSR_UNSUPPORTED;

    /* One count of batches if the strides allow it, else one call for each of the rarer kind. */
    const product_matrix *operands[] = {&p->a, &p->b, &p->c};
    bool merged = true;
    for (int i = 0; i < 3; i++)
        merged = merged && (p->outer == 1 || p->inner == 1 || one_stride(operands[i], p->inner));
    const bool by_outer = !merged && p->outer <= p->inner, by_inner = !merged && !by_outer;
    const bool count_inner = by_outer || (merged && p->outer == 1);
    g.batch = merged ? p->outer * p->inner : by_outer ? p->inner : p->outer;
    const bool use_inner = count_inner || (merged && p->inner > 1);
    g.batch_stride_a = use_inner ? p->a.inner : p->a.outer;
    g.batch_stride_b = use_inner ? p->b.inner : p->b.outer;
    g.batch_stride_c = use_inner ? p->c.inner : p->c.outer;

    const size_t size = tsr_dtype_size(p->dtype);
    const int64_t calls = merged ? 1 : by_outer ? p->outer : p->inner;
    for (int64_t i = 0; i < calls; i++) {
        if (!merged) {
            g.a = advanced(p->a.at, i * (by_inner ? p->a.inner : p->a.outer), size);
            g.b = advanced(p->b.at, i * (by_inner ? p->b.inner : p->b.outer), size);
            g.c = advanced(p->c.at, i * (by_inner ? p->c.inner : p->c.outer), size);
        }
        /* The bias is there before the product is added; a backend that then declines leaves the rest to the generic kernel,
         * which writes over it. */
        if (i == 0 && p->bias_along != PRODUCT_NO_BIAS && !spread_bias(device, p))
            return tsr_last_status();
        const tsr_status status = hal_gemm_run(device->queue, &g);
        if (status == TSR_UNSUPPORTED && i > 0)
            return fail(TSR_DRIVER_ERROR, "product: %s took the first of %lld products and declined the next",
                        device->id, (long long)calls);
        if (status != TSR_OK)
            return status;
    }
    return TSR_OK;
}

/* ---- processors -------------------------------------------------------------------------------------------------- */

/* How B lies for product_rows: as it is, or copied to where its columns are neighbours: in one piece, or, if it is so large or
 * lies so unluckily in memory that its rows would push each other out of the caches, in panels of PANEL columns. */
typedef enum b_layout { B_AS_IS, B_PACKED, B_PANELS } b_layout;

static b_layout layout_of_b(const product *p)
{
    const bool reused = p->m >= PACK_ROWS, large = p->k * p->n >= PACK_ELEMENTS;
    const bool unlucky =
        p->k >= 256 && p->b.row * (int64_t)tsr_dtype_size(p->dtype) % 2048 == 0; /* of a cache's way, 4096 */
    if (p->k == 0)
        return B_AS_IS;
    if (reused && p->n >= 2 * PANEL && (large || unlucky))
        return B_PANELS;
    return (p->b.col != 1 && p->n > 1) || p->n < ROWS_SLACK ? B_PACKED : B_AS_IS;
}

/* B, or a copy in a workspace: [batch, summand, panel, k, column]. */
typedef struct packed_b {
    product_matrix m; /* .row from one k to the next, within a panel */
    int64_t panel;    /* from one to the next; 0: there is one */
    memory_block *block;
} packed_b;

/* Copies `matrices` of inner x reduce each for every outer batch that differs; width columns from `first` on. */
static bool pack_columns(tsr_device *device, const product *p, int64_t first, int64_t width, int64_t panels,
                         int64_t matrix, int64_t y_first, hal_binding y)
{
    const int64_t outer = p->b.outer != 0 ? p->outer : 1, inner = p->b.inner != 0 ? p->inner : 1;
    const size_t size = tsr_dtype_size(p->dtype);
    rows_pack pack = {.dtype = p->dtype,
                      .rows = p->k,
                      .cols = width,
                      .x_row = p->b.row,
                      .x_col = p->b.col,
                      .pitch = panels > 1 || width == PANEL ? PANEL : div_up(width, ROWS_SLACK) * ROWS_SLACK};
    for (int64_t i = 0; i < outer; i++)
        for (int64_t j = 0; j < inner; j++) {
            /* Panels and summands are the two kinds of batches that one launch packs. */
            const int64_t at = (i * inner + j) * p->reduce * matrix + y_first;
            if (panels == 1) {
                pack.outer = p->reduce;
                pack.inner = 1;
                pack.x_outer = p->b.reduce;
                pack.y_batch = matrix;
                pack.x = advanced(p->b.at, i * p->b.outer + j * p->b.inner + first * p->b.col, size);
                pack.y = advanced(y, at, size);
                if (!rows_pack_run(device, &pack))
                    return false;
                continue;
            }
            for (int64_t r = 0; r < p->reduce; r++) {
                pack.outer = panels;
                pack.inner = 1;
                pack.x_outer = PANEL * p->b.col;
                pack.y_batch = PANEL * p->k;
                pack.x = advanced(p->b.at, i * p->b.outer + j * p->b.inner + r * p->b.reduce, size);
                pack.y = advanced(y, at + r * matrix, size);
                if (!rows_pack_run(device, &pack))
                    return false;
            }
        }
    return true;
}

static bool pack_b(tsr_device *device, const product *p, b_layout layout, packed_b *out)
{
    *out = (packed_b){.m = p->b};
    if (layout == B_AS_IS)
        return true;
    const int64_t panels = layout == B_PANELS ? p->n / PANEL : 0, rest = p->n - panels * PANEL;
    const int64_t pitch = div_up(rest, ROWS_SLACK) * ROWS_SLACK, matrix = p->k * (panels * PANEL + pitch);
    const int64_t outer = p->b.outer != 0 ? p->outer : 1, inner = p->b.inner != 0 ? p->inner : 1;
    const size_t bytes = (size_t)(outer * inner * p->reduce * matrix + ROWS_SLACK) * tsr_dtype_size(p->dtype);
    if (allocator_alloc(device->memory, device->queue, bytes, &out->block) != TSR_OK)
        return false;
    const hal_binding y = {out->block->buffer, out->block->offset, bytes};
    out->m = (product_matrix){.at = y,
                              .row = layout == B_PANELS ? PANEL : pitch,
                              .col = 1,
                              .outer = p->b.outer != 0 ? inner * p->reduce * matrix : 0,
                              .inner = p->b.inner != 0 ? p->reduce * matrix : 0,
                              .reduce = matrix};
    out->panel = layout == B_PANELS ? PANEL * p->k : 0;
    return (panels == 0 || pack_columns(device, p, 0, PANEL, panels, matrix, 0, y)) &&
           (rest == 0 || pack_columns(device, p, panels * PANEL, rest, 1, matrix, panels * PANEL * p->k, y));
}

/* A copy of A whose rows are contiguous, where neighbours of a row lie far apart and are read often. */
static bool pack_a(tsr_device *device, const product *p, product_matrix *out, memory_block **block)
{
    *out = p->a;
    if (p->a.col == 1 || p->k < 64 || p->n < PACK_COLUMNS || p->outer * p->inner * p->reduce > 1)
        return true;
    const size_t bytes = (size_t)(p->m * p->k) * tsr_dtype_size(p->dtype);
    if (allocator_alloc(device->memory, device->queue, bytes, block) != TSR_OK)
        return false;
    *out = (product_matrix){.at = {(*block)->buffer, (*block)->offset, bytes}, .row = p->k, .col = 1};
    return rows_pack_run(device, &(rows_pack){.dtype = p->dtype,
                                              .rows = p->m,
                                              .cols = p->k,
                                              .x_row = p->a.row,
                                              .x_col = p->a.col,
                                              .pitch = p->k,
                                              .x = p->a.at,
                                              .y = out->at});
}

/* C's columns from `first` on: `lines` of `width`. Long sums go in parts: over k, or over whole summands. */
static bool run_columns(tsr_device *device, const product *p, const product_matrix *a, const packed_b *b, int64_t first,
                        int64_t lines, int64_t width, bool past)
{
    static const uint32_t bias_flags[] = {0, ROWS_BIAS_ROWS, ROWS_BIAS_COLS};
    const size_t size = tsr_dtype_size(p->dtype);
    const int64_t pitch =
        b->panel != 0 && lines == 1 && width < PANEL ? div_up(width, ROWS_SLACK) * ROWS_SLACK : b->m.row;
    const hal_binding c = advanced(p->c.at, first, size);
    const hal_binding b_at = p->k == 0 ? p->c.at : advanced(b->m.at, b->panel != 0 ? first * p->k : 0, size);
    rows_product q = {.dtype = p->dtype,
                      .m = p->m,
                      .ar = {a->row, 0, 0},
                      .lines = lines,
                      .width = width,
                      .b_line = b->panel,
                      .c_line = width,
                      .ldc = p->c.row,
                      .outer = p->outer,
                      .inner = p->inner,
                      .a_outer = a->outer,
                      .a_inner = a->inner,
                      .b_outer = b->m.outer,
                      .b_inner = b->m.inner,
                      .c_outer = p->c.outer,
                      .c_inner = p->c.inner,
                      .flags = bias_flags[p->bias_along] | (past ? ROWS_READS_PAST : 0),
                      .bias = p->bias_along == PRODUCT_BIAS_COLS ? advanced(p->bias, first, size) : p->bias,
                      .k = {p->reduce, 1, p->k},
                      .ka = {a->reduce, 0, a->col},
                      .kb = {b->m.reduce, 0, pitch},
                      .c = c};
    const bool by_k = p->k > DEPTH_MOST;
    const int64_t summands = by_k ? 1 : p->k == 0 ? p->reduce : DEPTH_MOST / p->k;
    bool started = p->accumulate;
    for (int64_t r = 0; r < p->reduce; r += summands)
        for (int64_t from = 0; from == 0 || from < p->k; from += DEPTH_MOST) {
            q.k[0] = p->reduce - r < summands ? p->reduce - r : summands;
            q.k[2] = by_k && p->k - from > DEPTH_MOST ? DEPTH_MOST : p->k - from;
            /* With k = 0 nothing is read, and A and B may be empty: C stands in for them. */
            q.a = p->k == 0 ? p->c.at : advanced(a->at, r * a->reduce + from * a->col, size);
            q.b = p->k == 0 ? p->c.at : advanced(b_at, r * b->m.reduce + from * pitch, size);
            if (started)
                q.flags = (q.flags & ~(uint32_t)(ROWS_BIAS_ROWS | ROWS_BIAS_COLS)) | ROWS_ACCUMULATE;
            if (!rows_product_run(device, &q))
                return false;
            started = true;
        }
    return true;
}

static bool run_rows(tsr_device *device, const product *p)
{
    /* The bias along the columns of batches has the length of all columns: it cannot be cut. */
    b_layout layout = layout_of_b(p);
    if (layout == B_PANELS && p->bias_along == PRODUCT_BIAS_COLS && p->inner > 1)
        layout = B_PACKED;
    packed_b b;
    product_matrix a = p->a;
    memory_block *a_block = NULL;
    const int64_t split = layout == B_PANELS ? p->n / PANEL * PANEL : 0;
    const bool past = layout != B_AS_IS;
    const bool ok = pack_b(device, p, layout, &b) && pack_a(device, p, &a, &a_block) &&
                    (split == 0 || run_columns(device, p, &a, &b, 0, split / PANEL, PANEL, past)) &&
                    (split == p->n || run_columns(device, p, &a, &b, split, 1, p->n - split, past));
    if (b.block != NULL)
        allocator_free(device->memory, b.block);
    if (a_block != NULL)
        allocator_free(device->memory, a_block);
    return ok;
}

/* ---- GPUs -------------------------------------------------------------------------------------------------------- */

static bool run_tile(tsr_device *device, const product *p)
{
    const int64_t wanted[] = {p->m,       p->n,       p->k,       p->a.row,    p->a.col,    p->b.row,
                              p->b.col,   p->c.row,   p->reduce,  p->a.reduce, p->b.reduce, p->inner,
                              p->a.outer, p->a.inner, p->b.outer, p->b.inner,  p->c.outer,  p->c.inner};
    const int64_t reach[] = {(p->m - 1) * p->a.row + p->k * p->a.col + p->reduce * p->a.reduce,
                             (p->n - 1) * p->b.col + p->k * p->b.row + p->reduce * p->b.reduce,
                             (p->m - 1) * p->c.row + p->n};
    uint32_t q[19];
    for (int i = 0; i < 18; i++) {
        if (wanted[i] > UINT32_MAX)
            return unsupported("size or stride", wanted[i]);
        q[i] = (uint32_t)wanted[i];
    }
    for (int i = 0; i < 3; i++)
        if (reach[i] > UINT32_MAX)
            return unsupported("matrix", reach[i]);
    static const uint32_t bias_flags[] = {0, TILE_BIAS_ROWS, TILE_BIAS_COLS};
    q[18] = bias_flags[p->bias_along] | (p->accumulate ? TILE_ACCUMULATE : 0u);

    const int64_t rows = div_up(p->m, BLOCK), cols = div_up(p->n, BLOCK), step = GRID_YZ / p->inner;
    if (rows > GRID_YZ || p->inner > GRID_YZ)
        return unsupported("grid", rows > p->inner ? rows : p->inner);
    const size_t size = tsr_dtype_size(p->dtype);
    for (int64_t first = 0; first < p->outer; first += step) {
        const int64_t now = p->outer - first < step ? p->outer - first : step;
        const hal_binding c = advanced(p->c.at, first * p->c.outer, size);
        const hal_binding a = p->k == 0 ? c : advanced(p->a.at, first * p->a.outer, size);
        const hal_binding b = p->k == 0 ? c : advanced(p->b.at, first * p->b.outer, size);
        const grid g = {(uint32_t)cols, (uint32_t)rows, (uint32_t)(now * p->inner)};
        if (!kernel_launch(device, key_of("product_tile", p->dtype).text, g,
                           (hal_binding[]){a, b, c, p->bias_along != PRODUCT_NO_BIAS ? p->bias : a}, 4, q, sizeof q))
            return false;
    }
    return true;
}

bool product_run(tsr_device *device, const product *given)
{
    product p = *given;
    p.outer = p.outer < 1 ? 1 : p.outer;
    p.inner = p.inner < 1 ? 1 : p.inner;
    p.reduce = p.reduce < 1 ? 1 : p.reduce;
    const tsr_status status = run_vendor(device, &p);
    if (status != TSR_UNSUPPORTED)
        return status == TSR_OK;
    return device_variant(device) == HAL_CLASS_GPU ? run_tile(device, &p) : run_rows(device, &p);
}
