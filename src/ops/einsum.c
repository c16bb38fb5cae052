/* einsum of one or two operands by permutations, sums and one product; of more from left to right. Labels are numbers here, einsum_parse.c reads
 * them from a text. */
#include "ops/einsum.h"

#include <string.h>

#include "base/error.h"
#include "tessera/ops.h"

enum { A, B, OUT };

/* A tensor and the labels of its dimensions. */
typedef struct labelled {
    tensor *t;
    einsum_term of;
} labelled;

static int place_of(const einsum_term *t, int64_t label)
{
    int i = 0;
    while (i < t->count && t->labels[i] != label)
        i++;
    return i;
}

static void drop(einsum_term *t, int at)
{
    memmove(&t->labels[at], &t->labels[at + 1], sizeof *t->labels * (size_t)(t->count - at - 1));
    t->count--;
}

/* Axes i and k as one, of their elements with equal indices: those are n + 1 apart when the two lie last. */
static bool take_diagonal(labelled *x, int i, int k)
{
    int order[TSR_MAX_RANK], rank = 0;
    int64_t shape[TSR_MAX_RANK];
    const int64_t n = x->t->shape[i], label = x->of.labels[i];
    if (x->t->shape[k] != n) {
        fail(TSR_INVALID_ARGUMENT, "einsum: a label stands for sizes %lld and %lld of %s", (long long)n,
             (long long)x->t->shape[k], tensor_text(x->t));
        return false;
    }
    for (int d = 0; d < x->t->rank; d++)
        if (d != i && d != k) {
            shape[rank] = x->t->shape[d];
            order[rank++] = d;
        }
    order[rank] = i;
    order[rank + 1] = k;
    shape[rank] = n * n;
    tensor *t = tsr_reshape(tsr_permute(x->t, order), rank + 1, shape);
    x->t = tsr_slice(t, rank, 0, n * n, n + 1);
    drop(&x->of, k);
    drop(&x->of, i);
    x->of.labels[x->of.count++] = label;
    return x->t != NULL;
}

static bool take_diagonals(labelled *x)
{
    for (int i = 0; i < x->of.count; i++)
        for (int k = i + 1; k < x->of.count; k++)
            if (x->of.labels[i] == x->of.labels[k]) {
                if (!take_diagonal(x, i, k))
                    return false;
                i = -1; /* from the start: the axes have moved */
                break;
            }
    return true;
}

/* A size of 1 that meets a larger one is left out: it holds for all. */
static bool leave_ones_out(labelled *x, const labelled *other)
{
    int axes[TSR_MAX_RANK], count = 0;
    for (int i = x->of.count - 1; i >= 0; i--) {
        const int k = place_of(&other->of, x->of.labels[i]);
        if (k == other->of.count || x->t->shape[i] == other->t->shape[k] || other->t->shape[k] == 1)
            continue;
        if (x->t->shape[i] != 1) {
            fail(TSR_INVALID_ARGUMENT, "einsum: a label stands for size %lld of %s and size %lld of %s",
                 (long long)x->t->shape[i], tensor_text(x->t), (long long)other->t->shape[k], tensor_text(other->t));
            return false;
        }
        axes[count++] = i;
        drop(&x->of, i);
    }
    if (count > 0)
        x->t = tsr_squeeze(x->t, axes, count);
    return x->t != NULL;
}

/* Labels that are neither in the other operand nor in the result. */
static bool sums_out(const labelled *x, const einsum_term *other, const einsum_term *out)
{
    for (int i = 0; i < x->of.count; i++)
        if (!einsum_has(out, x->of.labels[i]) && !einsum_has(other, x->of.labels[i]))
            return true;
    return false;
}

static bool sum_out(labelled *x, const einsum_term *other, const einsum_term *out)
{
    int axes[TSR_MAX_RANK], count = 0;
    for (int i = x->of.count - 1; i >= 0; i--)
        if (!einsum_has(out, x->of.labels[i]) && !einsum_has(other, x->of.labels[i])) {
            axes[count++] = i;
            drop(&x->of, i);
        }
    if (count > 0)
        x->t = tsr_sum(x->t, axes, count, false);
    return x->t != NULL;
}

/* x with its dimensions in the order of `as`, which has the same labels. */
static tensor *arranged(const labelled *x, const einsum_term *as)
{
    int order[TSR_MAX_RANK];
    bool moves = false;
    for (int i = 0; i < as->count; i++) {
        order[i] = place_of(&x->of, as->labels[i]);
        moves = moves || order[i] != i;
    }
    return moves ? tsr_permute(x->t, order) : x->t;
}

/* Which labels of x the other operand and the result have, or not, with their sizes multiplied up. */
static int64_t pick(const labelled *x, const einsum_term *other, bool in_other, const einsum_term *out, bool in_out,
                    einsum_term *to)
{
    int64_t n = 1;
    for (int i = 0; i < x->of.count; i++)
        if (einsum_has(other, x->of.labels[i]) == in_other && einsum_has(out, x->of.labels[i]) == in_out) {
            to->labels[to->count++] = x->of.labels[i];
            n *= x->t->shape[i];
        }
    return n;
}

static void append_sizes(const labelled *x, const einsum_term *labels, int64_t *shape, int *rank)
{
    for (int i = 0; i < labels->count; i++)
        shape[(*rank)++] = x->t->shape[place_of(&x->of, labels->labels[i])];
}

static einsum_term joined(const einsum_term *a, const einsum_term *b, const einsum_term *c)
{
    einsum_term t = {0};
    const einsum_term *const parts[] = {a, b, c};
    for (int p = 0; p < 3; p++)
        for (int i = 0; i < parts[p]->count; i++)
            t.labels[t.count++] = parts[p]->labels[i];
    return t;
}

/* [batch, rows, inner] times [batch, inner, columns]. */
static bool multiply(const labelled *a, const labelled *b, const einsum_term *out, labelled *y)
{
    einsum_term batch = {0}, inner = {0}, rows = {0}, columns = {0};
    const int64_t n = pick(a, &b->of, true, out, true, &batch), k = pick(a, &b->of, true, out, false, &inner);
    const int64_t m = pick(a, &b->of, false, out, true, &rows), l = pick(b, &a->of, false, out, true, &columns);
    int64_t shape[TSR_MAX_RANK];
    int rank = 0;
    append_sizes(a, &batch, shape, &rank);
    append_sizes(a, &rows, shape, &rank);
    append_sizes(b, &columns, shape, &rank);
    const einsum_term left = joined(&batch, &rows, &inner), right = joined(&batch, &inner, &columns);
    tensor *x = tsr_reshape(arranged(a, &left), 3, (int64_t[]){n, m, k});
    tensor *w = tsr_reshape(arranged(b, &right), 3, (int64_t[]){n, k, l});
    /* Nothing to sum over: a product of elements. */
    tensor *z = inner.count == 0 ? tsr_mul(x, w) : tsr_matmul(x, w);
    y->t = tsr_reshape(z, rank, shape);
    y->of = joined(&batch, &rows, &columns);
    return y->t != NULL;
}

static bool check_terms(const op_call *call, const einsum_term *terms)
{
    const einsum_term *out = &terms[OUT];
    for (int i = 0; i < call->in_count; i++)
        if (terms[i].count != call->in[i]->rank) {
            fail(TSR_INVALID_ARGUMENT, "einsum: %d labels for %s", terms[i].count, tensor_text(call->in[i]));
            return false;
        }
    for (int t = 0; t <= OUT; t++)
        for (int i = 0; i < terms[t].count; i++)
            if (terms[t].labels[i] < 0 || terms[t].labels[i] >= EINSUM_LABELS) {
                fail(TSR_INVALID_ARGUMENT, "einsum: label %lld is not one of 0 to %d", (long long)terms[t].labels[i],
                     EINSUM_LABELS - 1);
                return false;
            }
    for (int i = 0; i < out->count; i++) {
        if (place_of(out, out->labels[i]) != i) {
            fail(TSR_INVALID_ARGUMENT, "einsum: the result has a label twice");
            return false;
        }
        if (!einsum_has(&terms[A], out->labels[i]) && !einsum_has(&terms[B], out->labels[i])) {
            fail(TSR_INVALID_ARGUMENT, "einsum: the result has a label that no operand has");
            return false;
        }
    }
    return true;
}

static bool compose(const op_call *call, tensor **result)
{
    einsum_term terms[3] = {{0}};
    const bool pair = call->in_count > 1 && call->in[B] != NULL;
    for (int i = 0; i < 3; i++) {
        terms[i].count = i == B && !pair ? 0 : call->attr[i].count;
        memcpy(terms[i].labels, call->attr[i].list, sizeof terms[i].labels);
    }
    const einsum_term *out = &terms[OUT];
    const tsr_dtype dtype = call->in[A]->dtype;
    labelled a = {call->in[A], terms[A]}, b = {pair ? call->in[B] : NULL, terms[B]}, y;
    if (!check_terms(call, terms) || !take_diagonals(&a) || (pair && !take_diagonals(&b)))
        return false;
    if (!pair) {
        const bool ok = sum_out(&a, &terms[B], out);
        result[0] = ok ? arranged(&a, out) : NULL;
        return result[0] != NULL;
    }
    if (!leave_ones_out(&a, &b) || !leave_ones_out(&b, &a))
        return false;
    /* What is summed before the product stays in f32 until the end. */
    if ((dtype == TSR_F16 || dtype == TSR_BF16) && (sums_out(&a, &b.of, out) || sums_out(&b, &a.of, out))) {
        a.t = tsr_cast(a.t, TSR_F32);
        b.t = tsr_cast(b.t, TSR_F32);
    }
    if (a.t == NULL || b.t == NULL || !sum_out(&a, &b.of, out) || !sum_out(&b, &a.of, out) ||
        !multiply(&a, &b, out, &y))
        return false;
    tensor *t = arranged(&y, out);
    result[0] = t != NULL && t->dtype != dtype ? tsr_cast(t, dtype) : t;
    return result[0] != NULL;
}

const op_row op_einsum = {
    .name = "einsum",
    .inputs_min = 1,
    .inputs_max = 2,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .same_dtype = true,
    .attrs = {{"a", ATTR_INTS, false, {0}}, {"b", ATTR_INTS, false, {0}}, {"out", ATTR_INTS, false, {0}}},
    .autocast = AUTOCAST_LOW,
    .compose = compose,
};

static attr_value attr_of(const einsum_term *t)
{
    attr_value v = {.count = t->count};
    memcpy(v.list, t->labels, sizeof v.list);
    return v;
}

static tensor *pairwise(tensor *a, const einsum_term *of_a, tensor *b, const einsum_term *of_b, const einsum_term *out)
{
    const attr_value attrs[OP_MAX_ATTRS] = {attr_of(of_a), attr_of(of_b), attr_of(out)};
    return b == NULL ? OP1(op_einsum, attrs, a) : OP1(op_einsum, attrs, a, b);
}

/* Of a and b, what the result or one of the operands from `next` on has. */
static bool carried(const einsum_equation *e, const einsum_term *a, const einsum_term *b, int next, einsum_term *to)
{
    *to = (einsum_term){0};
    for (int label = 0; label < EINSUM_LABELS; label++) {
        bool wanted = einsum_has(&e->out, label);
        for (int i = next; i < e->count; i++)
            wanted = wanted || einsum_has(&e->in[i], label);
        if (!wanted || (!einsum_has(a, label) && !einsum_has(b, label)))
            continue;
        if (to->count == TSR_MAX_RANK) {
            fail(TSR_UNSUPPORTED, "einsum: the product of the first %d operands has more than %d dimensions", next,
                 TSR_MAX_RANK);
            return false;
        }
        to->labels[to->count++] = label;
    }
    return true;
}

static tensor *folded(const einsum_equation *e, tensor *const *operands)
{
    tensor *t = operands[0];
    einsum_term of = e->in[0], next = {0};
    for (int i = 1; i + 1 < e->count && t != NULL; i++) {
        if (!carried(e, &of, &e->in[i], i + 1, &next))
            return NULL;
        t = pairwise(t, &of, operands[i], &e->in[i], &next);
        of = next;
    }
    const int last = e->count - 1;
    return t == NULL ? NULL
                     : pairwise(t, &of, last > 0 ? operands[last] : NULL, last > 0 ? &e->in[last] : &next, &e->out);
}

tsr_tensor *tsr_einsum(const char *equation, tsr_tensor *const *operands, int count)
{
    einsum_equation e;
    if (equation == NULL || operands == NULL || count < 1 || count > EINSUM_OPERANDS) {
        fail(TSR_INVALID_ARGUMENT, "einsum: no equation, or %d operands; there may be 1 to %d", count, EINSUM_OPERANDS);
        return NULL;
    }
    for (int i = 0; i < count; i++)
        if (operands[i] == NULL)
            return NULL;
    if (!einsum_parse(equation, operands, count, &e) || tsr_scope_begin() != TSR_OK)
        return NULL;
    tensor *y = folded(&e, operands);
    if (y == NULL)
        fail_prefix("'%s'", equation);
    y = tsr_keep(y);
    tsr_scope_end();
    return tensor_to_scope(y);
}
