/* Every operator of the library by name: the rows written by hand, then the elementwise table's. */
#include <string.h>

#include "base/compiler.h"
#include "ops/elementwise.h"
#include "ops/op.h"

/* clang-format off */
#define ROWS(X) \
    X(reshape) X(permute) X(slice) X(expand) X(clone) X(cast) X(matmul) X(linear) X(conv2d) X(max_pool2d) \
    X(avg_pool2d) X(sum) X(mean) X(max) X(argmax) X(prod) X(min) X(amax) X(amin) X(argmin) X(any) X(all) \
    X(count_nonzero) X(var) X(std) X(norm) X(logsumexp) X(cumsum) X(cumprod) X(softmax) X(log_softmax) \
    X(cross_entropy) X(nll) X(batch_norm2d) X(dropout) X(where) X(masked_fill) X(bitwise_not) X(nan_to_num) \
    X(layer_norm) X(rms_norm) X(group_norm) X(instance_norm) X(scaled_dot_product_attention) \
    X(rotary_embedding) X(embedding) X(index_select) X(index_add) X(gather) X(scatter) X(scatter_add) \
    X(squeeze) X(unsqueeze) X(narrow) X(split) X(chunk) X(cat) X(stack) X(repeat) X(roll) X(pad) X(flip) \
    X(tril) X(triu) X(sort) X(topk) X(one_hot) X(take_along_dim) X(resample) X(interpolate) \
    X(adaptive_avg_pool2d) X(conv1d) X(max_pool1d) X(avg_pool1d) X(outer) X(dot) \
    X(conv3d) X(conv_transpose1d) X(conv_transpose2d) X(conv_transpose3d) X(einsum) X(lstm_cell) X(gru_cell) X(weighted_bce_with_logits) X(instance_norm_running)
/* clang-format on */

#define DECLARE(name) extern const op_row op_##name;
ROWS(DECLARE)
#define ADDRESS(name) &op_##name,
static const op_row *const rows[] = {ROWS(ADDRESS)};

size_t op_count(void)
{
    return COUNT_OF(rows) + elementwise_count();
}

const op_row *op_at(size_t i)
{
    if (i < COUNT_OF(rows))
        return rows[i];
    return i < op_count() ? elementwise_at(i - COUNT_OF(rows)) : NULL;
}

const op_row *op_find(const char *name)
{
    for (size_t i = 0; i < op_count(); i++)
        if (strcmp(op_at(i)->name, name) == 0)
            return op_at(i);
    return NULL;
}
