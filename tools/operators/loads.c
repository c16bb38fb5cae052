/* The loads are those of networks in use: ResNet's convolutions, GPT-2's products, norms and attention, LLaMA's vocabulary. */
#include "loads.h"

#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "number.h"

typedef struct load_row {
    op_sample sample; /* its name is the operator's */
    uint32_t batches; /* bit k: operand k's first size grows with the load */
    double per_result, per_operand;
    double backward;   /* 0 means 1 */
    uint32_t constant; /* bit k: the derivative does not depend on operand k's values */
} load_row;

#define INDEX(type, from, to, ...)                                                                                     \
    {                                                                                                                  \
        DIMS(__VA_ARGS__), .values = VALUES_INTEGERS, .low = from, .high = to, .dtype = type, .typed = true            \
    }
#define ONE(...) .in = {{DIMS(__VA_ARGS__)}}
#define WIDE(n)                                                                                                        \
    {                                                                                                                  \
        DIMS(n), .low = 0.5, .high = 2, .wide = true                                                                   \
    }
#define AXIS      .attrs = {WITH_INTS("axes", 1, -1)}
#define ROWS_1024 ONE(16384, 1024)
#define IMAGES    ONE(64, 64, 64, 64)
#define KERNEL2   WITH_INTS("kernel", 2, 2, 2)
#define UNREAD    .constant = 1
#define NONE                                                                                                           \
    {                                                                                                                  \
        .absent = true                                                                                                 \
    }
#define REST NONE, NONE, NONE, NONE, NONE, NONE

/* clang-format off */
/* Results of a reduction are few: its work is counted by operand. */
#define REDUCTION(name) {{name, ROWS_1024, AXIS}, .batches = 1, .per_operand = 1}
#define SUM(name)       {{name, ROWS_1024, AXIS}, .batches = 1, .per_operand = 1, UNREAD}
#define PAIR(name)      {{name, .in = {{DIMS(16384, 1024), .low = 0.1, .high = 0.9}, {DIMS(16384, 1024), .low = 0.1, .high = 0.9}}}, \
                         .batches = 3, .per_operand = 1}
#define MOVE(name, ...) {{name, ROWS_1024, .attrs = {__VA_ARGS__}}, .batches = 1, UNREAD}

static const load_row rows[] = {
    /* products: 2 K for each result */
    {{"matmul", .in = {{DIMS(1024, 1024)}, {DIMS(1024, 1024)}}}, .batches = 1, .per_result = 2048, .backward = 2},
    {{"linear", .in = {{DIMS(1024, 768)}, {DIMS(3072, 768)}, {DIMS(3072)}}}, 1, .per_result = 1537, .backward = 2},
    {{"conv2d", .in = {{DIMS(32, 64, 56, 56)}, {DIMS(64, 64, 3, 3)}, {DIMS(64)}},
      .attrs = {WITH_INTS("padding", 2, 1, 1)}}, 1, .per_result = 1153, .backward = 2},
    {{"conv1d", .in = {{DIMS(64, 64, 1024)}, {DIMS(64, 64, 3)}, {DIMS(64)}}, .attrs = {WITH_INT("padding", 1)}},
     1, .per_result = 385, .backward = 2},
    {{"conv3d", .in = {{DIMS(4, 16, 16, 56, 56)}, {DIMS(16, 16, 3, 3, 3)}, {DIMS(16)}},
      .attrs = {WITH_INTS("padding", 3, 1, 1, 1)}}, 1, .per_result = 865, .backward = 2},
    /* doubling: each result meets a quarter of the taps, a half, an eighth */
    {{"conv_transpose2d", .in = {{DIMS(32, 64, 28, 28)}, {DIMS(64, 64, 2, 2)}, {DIMS(64)}},
      .attrs = {WITH_INTS("stride", 2, 2, 2)}}, 1, .per_result = 129, .backward = 2},
    {{"conv_transpose1d", .in = {{DIMS(64, 64, 512)}, {DIMS(64, 64, 4)}, {DIMS(64)}},
      .attrs = {WITH_INT("stride", 2), WITH_INT("padding", 1)}}, 1, .per_result = 257, .backward = 2},
    {{"conv_transpose3d", .in = {{DIMS(4, 16, 8, 28, 28)}, {DIMS(16, 16, 2, 2, 2)}, {DIMS(16)}},
      .attrs = {WITH_INTS("stride", 3, 2, 2, 2)}}, 1, .per_result = 33, .backward = 2},
    {{"einsum", .in = {{DIMS(8, 512, 12, 64)}, {DIMS(8, 512, 12, 64)}},
      .attrs = {WITH_INTS("a", 4, 0, 1, 2, 3), WITH_INTS("b", 4, 0, 4, 2, 3), WITH_INTS("out", 4, 0, 2, 1, 4)}},
     3, .per_result = 128, .backward = 2},
    {{"lstm_cell", .in = {{DIMS(4096, 4096)}, {DIMS(4096, 4096)}, {DIMS(4096, 1024)}}}, 7, .per_result = 7, .backward = 2},
    {{"gru_cell", .in = {{DIMS(4096, 3072)}, {DIMS(4096, 3072)}, {DIMS(4096, 1024)}}}, 7, .per_result = 12, .backward = 2},
    {{"scaled_dot_product_attention",
      .in = {{DIMS(8, 12, 512, 64)}, {DIMS(8, 12, 512, 64)}, {DIMS(8, 12, 512, 64)}, {.absent = true}}},
     7, .per_result = 2048, .backward = 2.5},
    {{"outer", .in = {{DIMS(4096)}, {DIMS(4096)}}}, 1, .per_result = 1, .backward = 4},
    {{"dot", .in = {{DIMS(LOAD_SIZE)}, {DIMS(LOAD_SIZE)}}}, 3, .per_operand = 1},
    /* reductions and scans */
    SUM("sum"), SUM("mean"), REDUCTION("max"), REDUCTION("min"), REDUCTION("amax"), REDUCTION("amin"),
    REDUCTION("argmax"), REDUCTION("argmin"), REDUCTION("prod"), REDUCTION("count_nonzero"), REDUCTION("var"),
    REDUCTION("std"), REDUCTION("norm"), REDUCTION("logsumexp"),
    {{"any", .in = {INDEX(TSR_BOOL, 0, 2, 16384, 1024)}, AXIS}, 1, .per_operand = 1},
    {{"all", .in = {INDEX(TSR_BOOL, 0, 2, 16384, 1024)}, AXIS}, 1, .per_operand = 1},
    {{"cumsum", ROWS_1024, .attrs = {WITH_INT("axis", -1)}}, 1, .per_result = 1, UNREAD},
    {{"cumprod", ROWS_1024, .attrs = {WITH_INT("axis", -1)}}, 1, .per_result = 1},
    /* rows */
    {{"softmax", ROWS_1024}, 1, .per_result = 4},
    {{"log_softmax", ROWS_1024}, 1, .per_result = 4},
    {{"cross_entropy", .in = {{DIMS(1024, 16384)}, INDEX(TSR_I64, 0, 16384, 1024), {.absent = true}}}, 3,
     .per_operand = 4},
    {{"nll", .in = {{DIMS(1024, 16384)}, INDEX(TSR_I64, 0, 16384, 1024), {.absent = true}}}, 3, .constant = 1},
    PAIR("mse"), PAIR("l1"), PAIR("smooth_l1"), PAIR("huber"), PAIR("bce_with_logits"), PAIR("kl_div"),
    {{"weighted_bce_with_logits", .in = {{DIMS(16384, 1024)}, {DIMS(16384, 1024), .low = 0, .high = 1}, {DIMS(1024)}, {DIMS(1024)}}},
     3, .per_operand = 4},
    {{"layer_norm", .in = {{DIMS(16384, 1024)}, WIDE(1024), WIDE(1024)}, .attrs = {WITH_INTS("normalized_shape", 1, 1024)}},
     1, .per_result = 8, .backward = 2},
    {{"rms_norm", .in = {{DIMS(16384, 1024)}, WIDE(1024)}, .attrs = {WITH_INTS("normalized_shape", 1, 1024)}}, 1,
     .per_result = 5, .backward = 2},
    {{"group_norm", .in = {{DIMS(64, 64, 64, 64)}, WIDE(64), WIDE(64)}, .attrs = {WITH_INT("groups", 8)}}, 1,
     .per_result = 8, .backward = 2},
    {{"instance_norm", .in = {{DIMS(64, 64, 64, 64)}, WIDE(64), WIDE(64)}}, 1, .per_result = 8, .backward = 2},
    {{"instance_norm_running", .in = {{DIMS(64, 64, 64, 64)}, WIDE(64), WIDE(64), WIDE(64), WIDE(64)}}, 1,
     .per_result = 14, .backward = 2},
    {{"batch_norm2d", .in = {{DIMS(64, 64, 64, 64)}, WIDE(64), WIDE(64), {.absent = true}, {.absent = true}}}, 1,
     .per_result = 8, .backward = 2},
    {{"dropout", ROWS_1024, .attrs = {WITH_FLOAT("p", 0.1), WITH_INT("draw", 0)}}, 1, .per_result = 1, UNREAD},
    {{"rotary_embedding", .in = {{DIMS(16, 16, 1024, 64)}, {DIMS(1024, 32)}, {DIMS(1024, 32)}}}, 1, .per_result = 3},
    /* images */
    {{"max_pool2d", IMAGES, .attrs = {KERNEL2}}, 1, .per_operand = 1},
    {{"avg_pool2d", IMAGES, .attrs = {KERNEL2}}, 1, .per_operand = 1, UNREAD},
    {{"max_pool1d", ONE(64, 64, 4096), .attrs = {WITH_INT("kernel", 2)}}, 1, .per_operand = 1},
    {{"avg_pool1d", ONE(64, 64, 4096), .attrs = {WITH_INT("kernel", 2)}}, 1, .per_operand = 1, UNREAD},
    {{"adaptive_avg_pool2d", IMAGES, .attrs = {WITH_INTS("sizes", 2, 7, 7)}}, 1, .per_operand = 1, UNREAD},
    {{"interpolate", ONE(16, 64, 64, 64), .attrs = {WITH_INTS("sizes", 2, 128, 128), WITH_INT("mode", 1)}}, 1,
     .per_result = 6, UNREAD},
    {{"resample", ONE(64, 64, 1024), .attrs = {WITH_INT("axis", -1), WITH_INT("size", 2048), WITH_INT("mode", 1)}}, 1,
     .per_result = 3, UNREAD},
    /* indices */
    {{"embedding", .in = {{DIMS(32000, 768)}, INDEX(TSR_I64, 0, 32000, 16, 1024)}}, 2, UNREAD}, /* fits 128 MiB */
    {{"index_select", .in = {{DIMS(16384, 1024)}, INDEX(TSR_I64, 0, 1024, 1024)}, .attrs = {WITH_INT("axis", 1)}}, 1,
     UNREAD},
    {{"index_add", .in = {{DIMS(16384, 1024)}, INDEX(TSR_I64, 0, 1024, 1024), {DIMS(16384, 1024)}},
      .attrs = {WITH_INT("axis", 1)}}, 5, .constant = 5},
    {{"gather", .in = {{DIMS(16384, 1024)}, INDEX(TSR_I64, 0, 1024, 16384, 1024)}, .attrs = {WITH_INT("axis", 1)}}, 3,
     UNREAD},
    {{"scatter", .in = {{DIMS(16384, 1024)}, INDEX(TSR_I64, 0, 1024, 16384, 1024), {DIMS(16384, 1024)}},
      .attrs = {WITH_INT("axis", 1)}}, 7, .constant = 5},
    {{"scatter_add", .in = {{DIMS(16384, 1024)}, INDEX(TSR_I64, 0, 1024, 16384, 1024), {DIMS(16384, 1024)}},
      .attrs = {WITH_INT("axis", 1)}}, 7, .per_result = 1, .constant = 5},
    {{"take_along_dim", .in = {{DIMS(16384, 1024)}, INDEX(TSR_I64, 0, 1024, 16384, 1024)},
      .attrs = {WITH_INT("axis", 1)}}, 3, UNREAD},
    {{"one_hot", .in = {INDEX(TSR_I64, 0, 256, 65536)}, .attrs = {WITH_INT("classes", 256)}}, .batches = 1},
    {{"sort", ONE(1024, 1024), .attrs = {WITH_INT("axis", -1)}}, 1, UNREAD},
    {{"topk", ONE(1024, 1024), .attrs = {WITH_INT("k", 16), WITH_INT("axis", -1)}}, 1, UNREAD},
    /* choosing and moving */
    {{"where", .in = {INDEX(TSR_BOOL, 0, 2, 16384, 1024), {DIMS(16384, 1024)}, {DIMS(16384, 1024)}}}, 7,
     .constant = 6},
    {{"masked_fill", .in = {{DIMS(16384, 1024)}, INDEX(TSR_BOOL, 0, 2, 16384, 1024)}, .attrs = {WITH_FLOAT("value", 0)}},
     3, UNREAD},
    {{"nan_to_num", ROWS_1024}, .batches = 1},
    {{"clone", ROWS_1024}, .batches = 1, UNREAD}, MOVE("reshape", WITH_INTS("shape", 1, -1)), MOVE("permute", WITH_INTS("axes", 2, 1, 0)),
    MOVE("slice", WITH_INT("axis", 1), WITH_INT("start", 0), WITH_INT("stop", 512), WITH_INT("step", 1)),
    MOVE("flip", WITH_INTS("axes", 1, 1)), MOVE("roll", WITH_INTS("shifts", 1, 100), WITH_INTS("axes", 1, 1)),
    {{"tril", ROWS_1024}, .batches = 1, UNREAD}, {{"triu", ROWS_1024}, .batches = 1, UNREAD}, MOVE("pad", WITH_INTS("sizes", 2, 4, 4)),
    {{"repeat", ONE(8192, 1024), .attrs = {WITH_INTS("times", 2, 1, 2)}}, 1, UNREAD},
    {{"cat", .in = {{DIMS(8192, 1024)}, {DIMS(8192, 1024)}, REST}, .attrs = {WITH_INT("axis", 1)}}, 3, .constant = 3},
    {{"stack", .in = {{DIMS(8192, 1024)}, {DIMS(8192, 1024)}, REST}, .attrs = {WITH_INT("axis", 1)}}, 3, .constant = 3},
    {{"cast", ROWS_1024, .attrs = {WITH_DTYPE("dtype", TSR_F16)}}, 1, UNREAD},
};
/* clang-format on */

/* Whether the derivative by any operand changes with operand k's values. */
static bool slope_reads(const operator_row *row, int k)
{
    const double apart[] = {0.13, 0.37, 0.71};
    double first[3] = {0};
    for (int i = 0; i < 3; i++) {
        double place[3], d[3] = {0}, m[3] = {0};
        for (int j = 0; j < 3; j++) {
            const double low = j > 0 && row->b_high > row->b_low ? row->b_low : row->low;
            const double high = j > 0 && row->b_high > row->b_low ? row->b_high : row->high;
            place[j] = low + (high - low) * (j == k ? apart[i] : 0.59);
        }
        row->slope(place, row->attrs, d, m);
        for (int j = 0; j < 3; j++)
            if (i > 0 && d[j] != first[j])
                return true;
        memcpy(first, d, sizeof first);
    }
    return false;
}

static void pointwise(const operator_row *row, int64_t size, load *l)
{
    l->sample.name = "pointwise";
    l->own = true;
    l->flops_per_result = 1;
    l->backward_reads = row->composed != NULL ? ~0u : 0;
    for (int k = 0; k < row->arity; k++) {
        sample_input *in = &l->sample.in[k];
        in->rank = 1;
        in->shape[0] = size;
        in->low = k > 0 && row->b_high > row->b_low ? row->b_low : row->low;
        in->high = k > 0 && row->b_high > row->b_low ? row->b_high : row->high;
        if (row->slope != NULL && row->arity <= 3 && slope_reads(row, k))
            l->backward_reads |= 1u << k;
    }
    for (int k = 0; k < 2 && row->attr_names[k] != NULL; k++)
        l->sample.attrs[k] = (tsr_attr){.name = row->attr_names[k], .kind = TSR_ATTR_FLOAT, .f = row->attrs[k]};
}

static bool listed(const operator_row *row, int64_t size, load *l)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (strcmp(rows[i].sample.name, row->name) != 0)
            continue;
        l->sample = rows[i].sample;
        l->sample.name = "load";
        l->own = true;
        l->flops_per_result = rows[i].per_result;
        l->flops_per_operand = rows[i].per_operand;
        l->backward_factor = rows[i].backward > 0 ? rows[i].backward : 1;
        l->backward_reads = ~rows[i].constant;
        for (int k = 0; k < INPUTS_MAX; k++) {
            int64_t *first = &l->sample.in[k].shape[0];
            if ((rows[i].batches >> k & 1) != 0)
                *first = (int64_t)fmax(1, floor((double)*first * (double)size / LOAD_SIZE));
        }
        return true;
    }
    return false;
}

static int64_t sample_size(const op_sample *s)
{
    int64_t n = 0;
    for (int k = 0; k < INPUTS_MAX; k++)
        n += s->in[k].absent || (k > 0 && s->in[k].rank == 0) ? 0 : shape_product(s->in[k].rank, s->in[k].shape);
    return n;
}

void load_of(const operator_row *row, int64_t size, load *l)
{
    memset(l, 0, sizeof *l);
    l->row = row;
    l->backward_factor = 1;
    if (listed(row, size, l))
        return;
    if (row->samples == NULL) {
        pointwise(row, size, l);
        return;
    }
    l->sample = row->samples[0];
    for (size_t i = 1; i < row->sample_count; i++)
        if (!row->samples[i].only_forward && sample_size(&row->samples[i]) > sample_size(&l->sample))
            l->sample = row->samples[i];
    l->flops_per_result = 1;
    l->backward_reads = ~0u;
}

tsr_dtype load_dtype(const load *l, int k, tsr_dtype dtype)
{
    const sample_input *in = &l->sample.in[k];
    return in->typed ? in->dtype : in->wide && dtype != TSR_F64 ? TSR_F32 : dtype;
}

int64_t load_count(const load *l, int k)
{
    const sample_input *in = &l->sample.in[k];
    return k >= l->row->arity || in->absent ? 0 : shape_product(in->rank, in->shape);
}

load_cost load_cost_of(const load *l, tsr_dtype dtype, const int64_t *out_count, const tsr_dtype *out_dtype, int outs,
                       bool backward)
{
    load_cost c = {0, 0};
    double operands = 0, results = 0;
    for (int k = 0; k < l->row->arity; k++) {
        const tsr_dtype own = load_dtype(l, k, dtype);
        const double count = (double)load_count(l, k), bytes = count * (double)tsr_dtype_size(own);
        const bool gradient = number_is_float(own) && (l->row->constant >> k & 1) == 0;
        operands += count;
        c.bytes += !backward ? bytes : ((l->backward_reads >> k & 1) != 0 ? bytes : 0) + (gradient ? bytes : 0);
    }
    for (int k = 0; k < outs && (!backward || k == 0); k++) {
        results += (double)out_count[k];
        c.bytes += (double)out_count[k] * (double)tsr_dtype_size(out_dtype[k]);
    }
    c.flops = (l->flops_per_result * results + l->flops_per_operand * operands) * (backward ? l->backward_factor : 1);
    return c;
}
