#include "trace.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "number.h"

typedef struct node {
    double value, error;             /* error in units of u */
    double gradient, size, doubtful; /* of the way back: value, size of its terms, error in units of u */
    int64_t edges;                   /* where its edges end; they begin where the ones of the node before end */
    int64_t uses;                    /* terms of its gradient */
} node;

typedef struct edge {
    term from;
    double slope, size, error; /* derivative, size of its terms, error in units of u */
} edge;

struct trace {
    tsr_dtype dtype;
    bool products, failed, summing;
    double u, tiny, largest;
    node *nodes;
    edge *links;
    int64_t count, capacity, link_count, link_capacity;
    struct {
        double value, size, error;
        int64_t terms;
    } sum;
};

enum { ROOM = 1 << 12, LANES = 64, BLOCK = 8192, DEPTH_MOST = 4096 };

trace *trace_create(void)
{
    return host_alloc_zeroed(1, sizeof(trace));
}

void trace_destroy(trace *t)
{
    if (t == NULL)
        return;
    host_free(t->nodes);
    host_free(t->links);
    host_free(t);
}

void trace_begin(trace *t, tsr_dtype dtype, bool products)
{
    const tsr_dtype carried = dtype == TSR_F64 ? TSR_F64 : TSR_F32;
    t->dtype = dtype;
    t->products = products;
    t->failed = t->summing = false;
    t->u = number_accumulator_roundoff(dtype);
    t->tiny = number_smallest(carried) / t->u;
    t->largest = number_largest(carried);
    t->count = t->link_count = 0;
}

bool trace_failed(const trace *t)
{
    return t->failed;
}

double trace_value(const trace *t, term a)
{
    return t->failed ? 0 : t->nodes[a].value;
}

double trace_bound(const trace *t, term a)
{
    return t->failed ? 0 : t->nodes[a].error * t->u;
}

/* ---- building ---- */

static bool grow(trace *t, void **memory, int64_t *capacity, int64_t count, size_t size)
{
    if (count < *capacity)
        return true;
    const int64_t more = *capacity == 0 ? ROOM : *capacity * 2;
    void *room = more > INT32_MAX ? NULL : host_realloc_array(*memory, (size_t)more, size);
    if (room == NULL)
        return t->failed = true, false;
    *memory = room;
    *capacity = more;
    return true;
}

static void link_to(trace *t, term from, double slope, double size, double error)
{
    if (t->failed || !grow(t, (void **)&t->links, &t->link_capacity, t->link_count, sizeof *t->links))
        return;
    t->links[t->link_count++] = (edge){from, slope, size, error};
}

static term make(trace *t, double value, double error)
{
    if (t->failed || t->summing || !grow(t, (void **)&t->nodes, &t->capacity, t->count, sizeof *t->nodes))
        return t->failed = true, 0;
    t->nodes[t->count] = (node){.value = value, .error = error, .edges = t->link_count};
    return (term)t->count++;
}

/* What one rounding may do: u |v|, and all of it where results may be flushed. A number beyond the largest has no bound. */
static double rounding(const trace *t, double v)
{
    const double size = fabs(v);
    if (isinf(v))
        return 0; /* of infinite operands: exact */
    if (size > t->largest)
        return (double)INFINITY;
    return size > 0 && size < 2 * t->tiny * t->u ? size + t->tiny : size;
}

static double error_of(const trace *t, term a)
{
    return t->failed ? 0 : t->nodes[a].error;
}

term trace_operand(trace *t, double value)
{
    /* Subnormal operands may count as 0. */
    return make(t, value, value != 0 && fabs(value) < t->tiny * t->u ? fabs(value) / t->u : 0);
}

/* Kernels get their numbers in f32, those of f64 as the sum of two. */
static double number_error(const trace *t, double value)
{
    const double high = (double)(float)value, low = (double)(float)(value - high);
    if (t->dtype != TSR_F64)
        return high == value ? 0 : rounding(t, value);
    return high + low == value ? 0 : fabs(value) * 0x1p-49 / t->u;
}

term trace_number(trace *t, double value)
{
    return make(t, value, number_error(t, value));
}

static term sum2(trace *t, term a, term b, double sign)
{
    const double v = trace_value(t, a) + sign * trace_value(t, b);
    link_to(t, a, 1, 1, 0);
    link_to(t, b, sign, 1, 0);
    return make(t, v, error_of(t, a) + error_of(t, b) + rounding(t, v));
}

term trace_add(trace *t, term a, term b)
{
    return sum2(t, a, b, 1);
}

term trace_sub(trace *t, term a, term b)
{
    return sum2(t, a, b, -1);
}

term trace_mul(trace *t, term a, term b)
{
    const double x = trace_value(t, a), y = trace_value(t, b), ex = error_of(t, a), ey = error_of(t, b);
    link_to(t, a, y, fabs(y), ey);
    link_to(t, b, x, fabs(x), ex);
    return make(t, x * y, fabs(y) * ex + fabs(x) * ey + rounding(t, x * y));
}

term trace_div(trace *t, term a, term b)
{
    const double y = trace_value(t, b), v = trace_value(t, a) / y;
    const double eb = error_of(t, b) / fabs(y), error = error_of(t, a) / fabs(y) + fabs(v) * eb + rounding(t, v);
    link_to(t, a, 1 / y, fabs(1 / y), fmax((eb + 1) / fabs(y), number_error(t, 1 / y)));
    link_to(t, b, -v / y, fabs(v / y), (error + fabs(v) * (eb + 1)) / fabs(y));
    return make(t, v, error);
}

term trace_scale(trace *t, term a, double by)
{
    const double v = trace_value(t, a) * by;
    const double own = number_error(t, by);
    link_to(t, a, by, fabs(by), own);
    return make(t, v, fabs(by) * error_of(t, a) + fabs(trace_value(t, a)) * own + rounding(t, v));
}

/* exp and log err by 2 ulp, so by up to 4 u of their value. */
term trace_exp(trace *t, term a)
{
    const double v = exp(trace_value(t, a)), error = v > 0 ? v * error_of(t, a) + 4 * rounding(t, v) : 0;
    link_to(t, a, v, v, error);
    return make(t, v, error);
}

term trace_log(trace *t, term a)
{
    const double x = trace_value(t, a), v = log(x), relative = error_of(t, a) / x;
    link_to(t, a, 1 / x, fabs(1 / x), (relative + 1) / fabs(x));
    return make(t, v, relative + 4 * rounding(t, v));
}

term trace_sqrt(trace *t, term a)
{
    const double x = trace_value(t, a), v = sqrt(x), relative = x > 0 ? error_of(t, a) / (2 * x) : 0;
    link_to(t, a, 0.5 / v, 0.5 / v, (relative + 2) * 0.5 / v);
    return make(t, v, v * relative + 2 * rounding(t, v));
}

term trace_pick(trace *t, term a)
{
    const double v = trace_value(t, a), e = error_of(t, a);
    link_to(t, a, 1, 1, 0);
    return make(t, v, e);
}

term trace_share(trace *t, const term *equal, int64_t count)
{
    const double v = trace_value(t, equal[0]), e = error_of(t, equal[0]), share = 1 / (double)count;
    for (int64_t i = 0; i < count; i++)
        link_to(t, equal[i], share, share, share);
    return make(t, v, e);
}

term trace_cast(trace *t, term a, tsr_dtype dtype)
{
    /* PyTorch comes to 16 bits through f32 */
    const double x = trace_value(t, a), single = dtype == TSR_F16 || dtype == TSR_BF16 ? number_round(TSR_F32, x) : x;
    const double v = number_round(dtype, single), e = error_of(t, a);
    if (number_is_float(dtype))
        link_to(t, a, 1, 1, 0);
    return make(t, v, e);
}

term trace_function(trace *t, double value, double ulp, int operands, const term *a, const double *d, const double *m,
                    double slack)
{
    const tsr_dtype carried = t->dtype == TSR_F64 ? TSR_F64 : TSR_F32;
    double error = ulp > 0 ? ulp * number_spacing(carried, value) / t->u : 0;
    if (ulp > 0 && fabs(value) < 2 * t->tiny * t->u)
        error += t->tiny;
    for (int k = 0; k < operands; k++) {
        const double e = error_of(t, a[k]);
        if (e > 0)
            error += fabs(d[k]) * e;
        link_to(t, a[k], d[k], m[k], slack * m[k]);
    }
    return make(t, value, error);
}

/* ---- sums ---- */

/* The additions that a term meets at the most: 64 lanes and their halving, block by block, over up to three groups of axes; or
 * what any route of a product adds up in one go, and then the parts. */
static double depth_of(const trace *t, int64_t terms)
{
    const double n = (double)terms;
    if (t->products)
        return fmin(n, DEPTH_MOST) + ceil(n / DEPTH_MOST) + 2;
    if (terms < 2)
        return 0;
    const double rows = 2 * 7; /* two more groups of axes: their halvings */
    return terms <= BLOCK ? fmin(n, ceil(n / LANES) + 6 + rows)
                          : (double)BLOCK / LANES + 6 + depth_of(t, (terms + BLOCK - 1) / BLOCK) + rows;
}

void trace_sum_begin(trace *t)
{
    t->failed = t->failed || t->summing;
    t->summing = true;
    memset(&t->sum, 0, sizeof t->sum);
}

static void sum_term(trace *t, double v, double error)
{
    t->sum.value += v;
    t->sum.size += fabs(v);
    t->sum.error += error;
    t->sum.terms++;
}

void trace_sum_add(trace *t, term a)
{
    link_to(t, a, 1, 1, 0);
    sum_term(t, trace_value(t, a), error_of(t, a));
}

void trace_sum_product(trace *t, term a, term b)
{
    const double x = trace_value(t, a), y = trace_value(t, b), ex = error_of(t, a), ey = error_of(t, b);
    link_to(t, a, y, fabs(y), ey);
    link_to(t, b, x, fabs(x), ex);
    sum_term(t, x * y, fabs(y) * ex + fabs(x) * ey + rounding(t, x * y));
}

static term sum_end(trace *t, double depth)
{
    t->summing = false;
    const double v = t->sum.value;
    double error = t->sum.error + depth * t->sum.size;
    if (fabs(v) > 0 && fabs(v) < 2 * t->tiny * t->u)
        error += t->tiny;
    if (isfinite(t->sum.size) && t->sum.size > t->largest)
        error = (double)INFINITY; /* parts of the sum may be out of range where the whole is not */
    return make(t, v, t->sum.terms == 0 ? 0 : isinf(v) ? 0 : error);
}

term trace_sum_end(trace *t)
{
    return sum_end(t, depth_of(t, t->sum.terms));
}

term trace_sum_end_deep(trace *t, double depth)
{
    for (int64_t k = t->count == 0 ? 0 : t->nodes[t->count - 1].edges; !t->failed && k < t->link_count; k++)
        t->links[k].error += depth * t->links[k].size;
    return sum_end(t, depth);
}

/* ---- the way back ---- */

void trace_seed(trace *t, term a, double gradient)
{
    if (t->failed)
        return;
    t->nodes[a].gradient += gradient;
    t->nodes[a].size += fabs(gradient);
    t->nodes[a].uses++;
}

static void follow(trace *t, const node *n, const edge *e)
{
    node *from = &t->nodes[e->from];
    const double g = n->gradient * e->slope, size = n->size * e->size;
    from->gradient += g;
    from->size += size;
    from->doubtful += n->doubtful * fabs(e->slope) + n->size * e->error + (e->size == 1 ? 0 : rounding(t, size));
    from->uses++;
}

void trace_backward(trace *t)
{
    for (int64_t i = t->count - 1; i >= 0 && !t->failed; i--) {
        node *n = &t->nodes[i];
        if (n->uses == 0)
            continue;
        if (n->uses > 1) /* terms of 16 bits are stored before they are summed */
            n->doubtful += n->size > number_largest(t->dtype) ? (double)INFINITY : depth_of(t, n->uses) * n->size;
        for (int64_t k = i == 0 ? 0 : t->nodes[i - 1].edges; k < n->edges; k++)
            follow(t, n, &t->links[k]);
    }
}

double trace_gradient(const trace *t, term a)
{
    return t->failed ? 0 : t->nodes[a].gradient;
}

double trace_gradient_bound(const trace *t, term a, double stored)
{
    if (t->failed)
        return 0;
    const node *n = &t->nodes[a];
    const double u = t->dtype == TSR_F16 || t->dtype == TSR_BF16 ? number_roundoff(t->dtype) : 0;
    const double least = t->dtype == TSR_F16 ? 0x1p-25 : 0;
    return t->u * n->doubtful + stored * (u * n->size + least * (double)n->uses);
}
