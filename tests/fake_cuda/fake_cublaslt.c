/* The fake libcublasLt.so.13: see fake_cuda.h. Multiplies column-major matrices as cublasLtMatmul is documented to, so that
 * the backend's translation from row-major shows its mistakes. It also checks what the real one takes on trust: that
 * pointers are as aligned as the plan was told, and that the workspace is there. */
#include "fake_cuda.h"

#include "backends/cuda/cublaslt_api.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT                                      __attribute__((visibility("default")))
#define DECLARE(returned, field, symbol, arguments) EXPORT returned symbol arguments;
CUBLASLT_FUNCTIONS(DECLARE)

#define MAGIC 0x7e55e7a0u

struct cublasLtContext {
    int unused;
};
struct lt_operation_opaque {
    lt_enum compute, scale;
    int32_t transpose_a, transpose_b;
};
struct lt_layout_opaque {
    lt_enum type;
    int64_t rows, columns, leading;
    int32_t batch;
    int64_t stride;
};
struct lt_preference_opaque {
    uint64_t workspace;
    uint32_t reductions, alignment[4];
};

/* What a plan's opaque words hold here. */
typedef struct fake_algo {
    uint32_t magic, alignment[4];
    uint64_t workspace;
} fake_algo;

typedef struct product {
    struct lt_operation_opaque operation;
    struct lt_layout_opaque a, b, c;
    unsigned long long a_address, b_address, c_address;
    double alpha, beta;
} product;

static void count(int64_t change)
{
    __atomic_add_fetch(&fake_cuda()->lt_objects, change, __ATOMIC_SEQ_CST);
}

EXPORT size_t cublasLtGetVersion(void)
{
    return 130002;
}

EXPORT const char *cublasLtGetStatusName(lt_status status)
{
    return status == LT_INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_OTHER";
}

EXPORT lt_status cublasLtCreate(lt_handle *handle)
{
    *handle = calloc(1, sizeof **handle);
    count(1);
    return LT_OK;
}

EXPORT lt_status cublasLtDestroy(lt_handle handle)
{
    free(handle);
    count(-1);
    return LT_OK;
}

EXPORT lt_status cublasLtMatmulDescCreate(lt_operation *operation, lt_enum compute, lt_enum scale)
{
    *operation = calloc(1, sizeof **operation);
    (*operation)->compute = compute;
    (*operation)->scale = scale;
    count(1);
    return LT_OK;
}

EXPORT lt_status cublasLtMatmulDescDestroy(lt_operation operation)
{
    free(operation);
    count(-1);
    return LT_OK;
}

static lt_status set(void *field, size_t field_size, const void *value, size_t size)
{
    if (size != field_size)
        return LT_INVALID_VALUE;
    memcpy(field, value, size);
    return LT_OK;
}

EXPORT lt_status cublasLtMatmulDescSetAttribute(lt_operation o, lt_enum attribute, const void *value, size_t size)
{
    switch (attribute) {
    case LT_OPERATION_TRANSPOSE_A: return set(&o->transpose_a, sizeof o->transpose_a, value, size);
    case LT_OPERATION_TRANSPOSE_B: return set(&o->transpose_b, sizeof o->transpose_b, value, size);
    default: return LT_INVALID_VALUE;
    }
}

EXPORT lt_status cublasLtMatrixLayoutCreate(lt_layout *layout, lt_enum type, uint64_t rows, uint64_t columns,
                                            int64_t leading)
{
    if (leading < (int64_t)rows)
        return LT_INVALID_VALUE; /* column-major: a column is contiguous */
    *layout = calloc(1, sizeof **layout);
    **layout = (struct lt_layout_opaque){type, (int64_t)rows, (int64_t)columns, leading, 1, 0};
    count(1);
    return LT_OK;
}

EXPORT lt_status cublasLtMatrixLayoutDestroy(lt_layout layout)
{
    free(layout);
    count(-1);
    return LT_OK;
}

EXPORT lt_status cublasLtMatrixLayoutSetAttribute(lt_layout l, lt_enum attribute, const void *value, size_t size)
{
    switch (attribute) {
    case LT_LAYOUT_BATCH_COUNT: return set(&l->batch, sizeof l->batch, value, size);
    case LT_LAYOUT_BATCH_STRIDE: return set(&l->stride, sizeof l->stride, value, size);
    default: return LT_INVALID_VALUE;
    }
}

EXPORT lt_status cublasLtMatmulPreferenceCreate(lt_preference *preference)
{
    *preference = calloc(1, sizeof **preference);
    for (int i = 0; i < 4; i++)
        (*preference)->alignment[i] = 256; /* the real default */
    count(1);
    return LT_OK;
}

EXPORT lt_status cublasLtMatmulPreferenceDestroy(lt_preference preference)
{
    free(preference);
    count(-1);
    return LT_OK;
}

EXPORT lt_status cublasLtMatmulPreferenceSetAttribute(lt_preference p, lt_enum attribute, const void *value,
                                                      size_t size)
{
    switch (attribute) {
    case LT_PREFERENCE_WORKSPACE: return set(&p->workspace, sizeof p->workspace, value, size);
    case LT_PREFERENCE_REDUCTIONS: return set(&p->reductions, sizeof p->reductions, value, size);
    case LT_PREFERENCE_ALIGNMENT_A: return set(&p->alignment[0], sizeof(uint32_t), value, size);
    case LT_PREFERENCE_ALIGNMENT_B: return set(&p->alignment[1], sizeof(uint32_t), value, size);
    case LT_PREFERENCE_ALIGNMENT_C: return set(&p->alignment[2], sizeof(uint32_t), value, size);
    case LT_PREFERENCE_ALIGNMENT_D: return set(&p->alignment[3], sizeof(uint32_t), value, size);
    default: return LT_INVALID_VALUE;
    }
}

/* op(A) is rows x depth, op(B) depth x columns, C rows x columns. */
static bool shapes_agree(const struct lt_operation_opaque *o, const struct lt_layout_opaque *a,
                         const struct lt_layout_opaque *b, const struct lt_layout_opaque *c)
{
    const int64_t rows = o->transpose_a ? a->columns : a->rows, depth = o->transpose_a ? a->rows : a->columns;
    const int64_t columns = o->transpose_b ? b->rows : b->columns, other = o->transpose_b ? b->columns : b->rows;

    return rows == c->rows && columns == c->columns && depth == other && a->batch == b->batch && a->batch == c->batch &&
           a->type == b->type && o->scale == (o->compute == LT_COMPUTE_F64 ? LT_F64 : LT_F32) &&
           (c->type == a->type || c->type == LT_F32);
}

EXPORT lt_status cublasLtMatmulAlgoGetHeuristic(lt_handle handle, lt_operation operation, lt_layout a, lt_layout b,
                                                lt_layout c, lt_layout d, lt_preference preference, int requested,
                                                lt_heuristic *results, int *found)
{
    fake_algo algo = {.magic = MAGIC, .workspace = preference->workspace};
    const char *none = getenv("FAKE_CUBLASLT_NONE");

    (void)handle;
    __atomic_add_fetch(&fake_cuda()->heuristic_searches, 1, __ATOMIC_SEQ_CST);
    *found = 0;
    if (none && *none == '1')
        return LT_NOT_SUPPORTED;
    if (requested < 1 || c != d || !shapes_agree(operation, a, b, c))
        return LT_INVALID_VALUE;
    if (c->type != LT_F32 && c->type != LT_F64 && preference->reductions & ~(uint32_t)LT_REDUCTION_COMPUTE_TYPE)
        fake_cuda_violation("split sums of a 16-bit product may be rounded at each split");
    memcpy(algo.alignment, preference->alignment, sizeof algo.alignment);
    memset(results, 0, sizeof *results);
    memcpy(&results->algo, &algo, sizeof algo);
    results->workspace_bytes = (size_t)preference->workspace;
    results->state = LT_OK;
    *found = 1;
    return LT_OK;
}

/* ---- arithmetic -------------------------------------------------------------------------------------------------- */

static size_t size_of(lt_enum type)
{
    return type == LT_F64 ? 8 : type == LT_F32 ? 4 : 2;
}

static double widen_f16(uint16_t h)
{
    const int exponent = h >> 10 & 31, fraction = h & 1023;
    const double magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                             : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                            : ldexp(fraction, -24);
    return h & 0x8000 ? -magnitude : magnitude;
}

/* To nearest, ties to even. */
static uint16_t narrow_f16(double v)
{
    const uint16_t sign = signbit(v) ? 0x8000 : 0;
    const double magnitude = fabs(v);
    int exponent;

    if (isnan(v))
        return 0x7e00;
    if (magnitude >= 65520)
        return sign | 0x7c00;
    if (magnitude < 0x1p-14)
        return sign | (uint16_t)rint(ldexp(magnitude, 24));
    frexp(magnitude, &exponent); /* in [2^(exponent - 1), 2^exponent) */
    return (uint16_t)(sign | (((exponent + 13) << 10) + (int)rint(ldexp(magnitude, 11 - exponent))));
}

static double load(lt_enum type, const unsigned char *at)
{
    uint16_t h;
    uint32_t bits;
    float f;
    double v;

    switch (type) {
    case LT_F64: memcpy(&v, at, 8); return v;
    case LT_F32: memcpy(&f, at, 4); return (double)f;
    case LT_BF16:
        memcpy(&h, at, 2);
        bits = (uint32_t)h << 16;
        memcpy(&f, &bits, 4);
        return (double)f;
    default: memcpy(&h, at, 2); return widen_f16(h);
    }
}

static void store(lt_enum type, unsigned char *at, double v)
{
    const float f = (float)v;
    uint32_t bits;
    uint16_t h;

    memcpy(&bits, &f, 4);
    switch (type) {
    case LT_F64: memcpy(at, &v, 8); break;
    case LT_F32: memcpy(at, &f, 4); break;
    case LT_BF16:
        h = isnan(v) ? 0x7fc0 : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
        memcpy(at, &h, 2);
        break;
    default:
        h = narrow_f16(v);
        memcpy(at, &h, 2);
        break;
    }
}

static size_t bytes_of(const struct lt_layout_opaque *l)
{
    return size_of(l->type) * (size_t)((l->batch - 1) * l->stride + (l->columns - 1) * l->leading + l->rows);
}

static void run_product(void *payload)
{
    const product *p = payload;
    const struct lt_layout_opaque *a = &p->a, *b = &p->b, *c = &p->c;
    const unsigned char *a_host = fake_cuda_host_address(p->a_address, bytes_of(a));
    const unsigned char *b_host = fake_cuda_host_address(p->b_address, bytes_of(b));
    unsigned char *c_host = fake_cuda_host_address(p->c_address, bytes_of(c));
    const int64_t depth = p->operation.transpose_a ? a->rows : a->columns;

    if (!a_host || !b_host || !c_host)
        return;
    for (int64_t s = 0; s < c->batch; s++)
        for (int64_t j = 0; j < c->columns; j++)
            for (int64_t i = 0; i < c->rows; i++) {
                unsigned char *out = c_host + size_of(c->type) * (size_t)(s * c->stride + j * c->leading + i);
                double sum = 0;
                for (int64_t l = 0; l < depth; l++) {
                    const int64_t ai = p->operation.transpose_a ? i * a->leading + l : l * a->leading + i;
                    const int64_t bi = p->operation.transpose_b ? l * b->leading + j : j * b->leading + l;
                    sum += load(a->type, a_host + size_of(a->type) * (size_t)(s * a->stride + ai)) *
                           load(b->type, b_host + size_of(b->type) * (size_t)(s * b->stride + bi));
                }
                sum *= p->alpha;
                if (p->beta != 0)
                    sum += p->beta * load(c->type, out);
                store(c->type, out, sum);
            }
}

static void check_alignment(const fake_algo *algo, int which, const void *pointer)
{
    if ((uintptr_t)pointer % algo->alignment[which])
        fake_cuda_violation("operand %d of a product is not aligned to %u bytes, which its plan was told", which,
                            algo->alignment[which]);
}

EXPORT lt_status cublasLtMatmul(lt_handle handle, lt_operation operation, const void *alpha, const void *a,
                                lt_layout a_layout, const void *b, lt_layout b_layout, const void *beta, const void *c,
                                lt_layout c_layout, void *d, lt_layout d_layout, const lt_algo *algo, void *workspace,
                                size_t workspace_bytes, cu_stream stream)
{
    product p = {.operation = *operation, .a = *a_layout, .b = *b_layout, .c = *c_layout};
    fake_algo plan;

    (void)handle;
    memcpy(&plan, algo, sizeof plan);
    if (plan.magic != MAGIC || c != d || c_layout != d_layout || workspace_bytes < plan.workspace ||
        (plan.workspace && !fake_cuda_host_address((uintptr_t)workspace, (size_t)plan.workspace)))
        return LT_INVALID_VALUE;
    check_alignment(&plan, 0, a);
    check_alignment(&plan, 1, b);
    check_alignment(&plan, 2, c);
    check_alignment(&plan, 3, d);
    p.a_address = (uintptr_t)a;
    p.b_address = (uintptr_t)b;
    p.c_address = (uintptr_t)c;
    p.alpha = load(operation->scale, alpha);
    p.beta = load(operation->scale, beta);
    __atomic_add_fetch(&fake_cuda()->products, 1, __ATOMIC_SEQ_CST);
    return fake_cuda_enqueue(stream, run_product, &p, sizeof p) == CU_OK ? LT_OK : 13; /* execution failed */
}
