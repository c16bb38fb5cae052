#include "samples.h"

#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "base/memory.h"
#include "base/philox.h"
#include "number.h"

/* ---- an elementwise operator's ---- */

/* Shapes of up to three operands: none of them a multiple of a tile or a vector. */
static const struct {
    const char *name;
    struct {
        int rank;
        int64_t shape[5];
    } in[3];
    layout layout[3];
} shapes[] = {
    {"contiguous", {{2, {5, 7}}, {2, {5, 7}}, {2, {5, 7}}}, {0}},
    {"transposed", {{2, {6, 9}}, {2, {6, 9}}, {2, {6, 9}}}, {LAYOUT_REVERSED, LAYOUT_DENSE, LAYOUT_STEPPED}},
    {"stepped", {{3, {2, 3, 9}}, {3, {2, 3, 9}}, {3, {2, 3, 9}}}, {LAYOUT_STEPPED, LAYOUT_STEPPED, LAYOUT_REVERSED}},
    {"broadcast", {{3, {3, 1, 5}}, {2, {4, 1}}, {3, {3, 4, 5}}}, {0}},
    {"broadcast rows", {{1, {17}}, {2, {6, 17}}, {2, {6, 1}}}, {0}},
    {"spread", {{2, {7, 5}}, {2, {7, 5}}, {0, {0}}}, {LAYOUT_SPREAD, LAYOUT_DENSE, LAYOUT_DENSE}},
    {"five axes", {{5, {2, 3, 1, 2, 5}}, {5, {2, 1, 3, 2, 5}}, {2, {2, 5}}}, {LAYOUT_REVERSED, 0, LAYOUT_REVERSED}},
    {"empty", {{2, {0, 3}}, {2, {0, 3}}, {1, {3}}}, {0}},
    {"scalar", {{0, {0}}, {0, {0}}, {0, {0}}}, {0}},
    {"one element", {{3, {1, 1, 1}}, {1, {1}}, {0, {0}}}, {0}},
    {"odd", {{2, {7, 129}}, {2, {7, 129}}, {1, {129}}}, {0}},
    {"past a span", {{1, {4099}}, {1, {4099}}, {1, {4099}}}, {0}},
    {"past 2^16", {{1, {65539}}, {1, {65539}}, {1, {1}}}, {0}},
    {"many short rows", {{2, {4999, 3}}, {2, {4999, 3}}, {1, {3}}}, {LAYOUT_STEPPED, LAYOUT_DENSE, LAYOUT_DENSE}},
};

static op_sample *append(sample_list *list, const char *name)
{
    if (list->count == SAMPLES_MAX)
        return &list->samples[SAMPLES_MAX - 1];
    op_sample *s = &list->samples[list->count++];
    memset(s, 0, sizeof *s);
    s->name = name;
    return s;
}

static void elementwise_sample(const operator_row *row, sample_list *list, const char *name, size_t shape, value_kind v)
{
    op_sample *s = append(list, name);
    for (int k = 0; k < row->arity; k++) {
        sample_input *in = &s->in[k];
        in->rank = shapes[shape].in[k].rank;
        memcpy(in->shape, shapes[shape].in[k].shape, sizeof shapes[shape].in[k].shape);
        in->layout = shapes[shape].layout[k];
        in->values = v;
        in->low = k > 0 && row->b_high > row->b_low ? row->b_low : row->low;
        in->high = k > 0 && row->b_high > row->b_low ? row->b_high : row->high;
    }
    for (int k = 0; k < 2 && row->attr_names[k] != NULL; k++)
        s->attrs[k] = (tsr_attr){.name = row->attr_names[k], .kind = TSR_ATTR_FLOAT, .f = row->attrs[k]};
}

static void elementwise_samples(const operator_row *row, tsr_dtype dtype, sample_list *list)
{
    const bool real = number_is_float(dtype);
    const value_kind whole = row->whole != VALUES_REALS ? row->whole : VALUES_INTEGERS;
    for (size_t i = 0; i < COUNT_OF(shapes); i++)
        elementwise_sample(row, list, shapes[i].name, i, real ? VALUES_REALS : whole);
    elementwise_sample(row, list, "small integers", 10, VALUES_INTEGERS);
    if (!real)
        return;
    elementwise_sample(row, list, "extreme values", 10, VALUES_EXTREMES);
    if (row->no_specials)
        return;
    elementwise_sample(row, list, "NaN and infinities", 10, VALUES_SPECIALS);
    list->samples[list->count - 1].only_forward = true;
}

/* ---- what every other operator gets besides its own: variants of its first sample ---- */

static op_sample *variant(sample_list *list, const char *name)
{
    op_sample *s = append(list, name);
    *s = list->samples[0];
    s->name = name;
    return s;
}

static void lay(const operator_row *row, sample_list *list, const char *name, layout l)
{
    op_sample *s = variant(list, name);
    for (int k = 0; k < row->arity; k++)
        if (!s->in[k].wide && (l != LAYOUT_SPREAD || k == 0))
            s->in[k].layout = l;
}

static void put_values(const operator_row *row, sample_list *list, const char *name, value_kind v)
{
    op_sample *s = variant(list, name);
    s->only_forward = v == VALUES_SPECIALS;
    for (int k = 0; k < row->arity; k++)
        if (!s->in[k].typed && !s->in[k].wide && (k == 0 || v != VALUES_SPECIALS))
            s->in[k].values = v;
}

static void variants(const operator_row *row, tsr_dtype dtype, sample_list *list)
{
    const bool wide_range = dtype == TSR_F32 || dtype == TSR_BF16 || dtype == TSR_F64;
    lay(row, list, "reversed", LAYOUT_REVERSED);
    lay(row, list, "stepped", LAYOUT_STEPPED);
    lay(row, list, "spread", LAYOUT_SPREAD);
    if (!number_is_float(dtype))
        return;
    if (row->huge > 0 && wide_range)
        put_values(row, list, "near overflow", VALUES_HUGE);
    if (row->tiny > 0 && wide_range)
        put_values(row, list, "near underflow", VALUES_TINY);
    if (row->specials)
        put_values(row, list, "NaN and infinities", VALUES_SPECIALS);
}

void samples_of(const operator_row *row, tsr_dtype dtype, sample_list *list)
{
    list->count = 0;
    if (row->samples == NULL) {
        elementwise_samples(row, dtype, list);
        return;
    }
    for (size_t i = 0; i < row->sample_count; i++) {
        op_sample *s = append(list, row->samples[i].name);
        *s = row->samples[i];
        for (int k = 0; k < row->arity && !number_is_float(dtype); k++)
            s->in[k].values = s->in[k].values >= VALUES_RAMP ? s->in[k].values : VALUES_INTEGERS;
    }
    variants(row, dtype, list);
}

int sample_inputs(const operator_row *row, const op_sample *sample)
{
    int n = row->arity;
    while (n > 0 && sample->in[n - 1].absent)
        n--;
    return n;
}

int sample_attrs(const op_sample *sample)
{
    int n = 0;
    while (n < ATTRS_MAX && sample->attrs[n].name != NULL)
        n++;
    return n;
}

/* ---- numbers ---- */

static double extreme(tsr_dtype dtype, uint32_t which)
{
    const double largest = number_largest(dtype), smallest = number_smallest(dtype);
    const double sizes[] = {0,
                            1,
                            largest,
                            largest / 4,
                            smallest,
                            smallest * 4,
                            sqrt(largest) * 0.9,
                            sqrt(largest) * 1.2,
                            sqrt(smallest),
                            number_roundoff(dtype),
                            0.5,
                            20,
                            89,
                            1e4};
    const double size = sizes[which / 2 % COUNT_OF(sizes)];
    return which % 2 != 0 ? -size : size;
}

static double scaled(const operator_row *row, value_kind v, tsr_dtype dtype, double x)
{
    const double scale = v == VALUES_HUGE ? row->huge : row->tiny;
    /* The scales are f32's; the exponents of f64 go eight times as far. */
    return x * (dtype == TSR_F64 ? pow(scale, 8) : scale);
}

/* All bits of 32, or the 48 lowest of 64 and a sign: what two of them make is a number of double too. */
static double any_integer(tsr_dtype dtype, uint32_t word, philox_stream *numbers)
{
    const double size = dtype == TSR_I64 ? (double)word * 65536 + (double)(philox_next(numbers) >> 16) : (double)word;
    switch (dtype) {
    case TSR_BOOL: return word >> 31;
    case TSR_U8: return word >> 24;
    case TSR_I64: return (word & 1) != 0 ? -size : size;
    default: return size - 0x1p31;
    }
}

static double draw(const operator_row *row, const sample_input *in, tsr_dtype dtype, philox_stream *numbers, int64_t i,
                   int64_t count)
{
    const uint32_t word = philox_next(numbers);
    const bool bounded = in->high > in->low;
    const double unit = (double)word * 0x1p-32, low = bounded ? in->low : -1, high = bounded ? in->high : 1;
    const double real = low + (high - low) * unit;
    switch (in->values) {
    case VALUES_INTEGERS:
        if (in->typed && bounded)
            return floor(real);
        return dtype == TSR_U8 || low > 0 ? (double)((word >> 8) % 4) : (double)((word >> 8) % 7) - 3;
    case VALUES_HUGE:
    case VALUES_TINY: return scaled(row, in->values, dtype, real);
    case VALUES_EXTREMES: return extreme(dtype, word >> 4);
    case VALUES_SPECIALS: {
        static const double specials[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
        return i % 5 == 2 ? specials[(word >> 8) % 3] : real;
    }
    case VALUES_RAMP: {
        static const int64_t primes[] = {7, 11, 13, 17, 19, 23};
        int64_t step = 29;
        for (size_t k = COUNT_OF(primes); k-- > 0;)
            step = count % primes[k] != 0 ? primes[k] : step; /* shares no factor with the count: a permutation */
        const int64_t rank = i * step % (count > 0 ? count : 1);
        return dtype == TSR_U8 ? (double)(rank % 251) : (double)rank * (count > 1024 ? 1.0 / 32 : 0.25);
    }
    case VALUES_SIGNS: return (word >> 8) % 2 != 0 && dtype != TSR_U8 ? -1 : 1;
    case VALUES_SPARSE: return (word >> 8) % 97 == 0 ? (double)(1 + (word >> 16) % 3) : 0;
    case VALUES_HIDING: return (word >> 8) % 2 != 0 ? 0 : -(double)INFINITY;
    case VALUES_BITS:
        return !bounded ? any_integer(dtype, word, numbers) : dtype == TSR_U8 ? fabs(floor(real)) : floor(real);
    case VALUES_REALS: break;
    }
    return in->typed && !number_is_float(in->dtype) ? floor(real) : real;
}

static void fill(const operator_row *row, const sample_input *in, tsr_dtype dtype, philox_stream *numbers, double *out)
{
    const int64_t count = shape_product(in->rank, in->shape);
    const int64_t own = in->layout == LAYOUT_SPREAD && in->rank > 0 && in->shape[0] > 0 ? count / in->shape[0] : count;
    for (int64_t i = 0; i < own; i++) {
        double v = number_round(dtype, draw(row, in, dtype, numbers, i, count));
        if (isinf(v) && in->values != VALUES_SPECIALS && in->values != VALUES_HIDING)
            v = copysign(number_largest(dtype), v);
        out[i] = v;
    }
    for (int64_t i = own; i < count; i++)
        out[i] = out[i % own];
}

/* A stream for each operand of each sample, so that one does not depend on what was run before. */
static philox_stream stream_of(const operator_row *row, const op_sample *s, size_t number, tsr_dtype dtype,
                               uint64_t seed, int which)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a over the names */
    for (const char *c = row->name; *c != '\0'; c++)
        h = (h ^ (uint8_t)*c) * 1099511628211u;
    for (const char *c = s->name; *c != '\0'; c++)
        h = (h ^ (uint8_t)*c) * 1099511628211u;
    h ^= (uint64_t)number << 40 ^ (uint64_t)dtype << 32 ^ (uint64_t)which << 24;
    return philox_begin(seed, PHILOX_ORDER, h);
}

bool sample_fill(const operator_row *row, const op_sample *s, size_t number, tsr_dtype dtype, uint64_t seed,
                 host_input *inputs)
{
    memset(inputs, 0, sizeof *inputs * INPUTS_MAX);
    for (int k = 0; k < row->arity; k++) {
        const sample_input *in = &s->in[k];
        if (in->absent)
            continue;
        inputs[k].dtype = in->typed ? in->dtype : in->wide && dtype != TSR_F64 ? TSR_F32 : dtype;
        inputs[k].count = shape_product(in->rank, in->shape);
        inputs[k].value = host_realloc_array(NULL, (size_t)inputs[k].count + 1, sizeof(double));
        if (inputs[k].value == NULL) {
            sample_free(inputs);
            return false;
        }
        philox_stream numbers = stream_of(row, s, number, dtype, seed, k);
        fill(row, in, inputs[k].dtype, &numbers, inputs[k].value);
    }
    return true;
}

void sample_free(host_input *inputs)
{
    for (int k = 0; k < INPUTS_MAX; k++) {
        host_free(inputs[k].value);
        inputs[k].value = NULL;
    }
}

double *sample_gradient(const operator_row *row, const op_sample *s, size_t number, tsr_dtype dtype, uint64_t seed,
                        int64_t count)
{
    double *g = host_realloc_array(NULL, (size_t)count + 1, sizeof *g);
    philox_stream numbers = stream_of(row, s, number, dtype, seed, INPUTS_MAX);
    const value_kind v = s->in[0].values;
    for (int64_t i = 0; g != NULL && i < count; i++) {
        const uint32_t word = philox_next(&numbers);
        g[i] = v == VALUES_REALS || v == VALUES_RAMP ? number_round(dtype, (double)word * 0x1p-31 - 1)
               : v == VALUES_INTEGERS                ? (double)((word >> 8) % 5) - 2
                                                     : ((word >> 8) % 2 == 0 ? 1 : -1);
    }
    return g;
}
