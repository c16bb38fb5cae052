#include "reference.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

static const double unit_roundoff = 0x1p-24, smallest_normal = 0x1p-126;

enum { DEPTH_MOST = 4096 /* terms that any route of the library adds up in one go; longer sums are sums of parts */ };

/* |fl(Σ a b) - Σ a b| ≤ d u / (1 - d u) Σ |a b|, where no term meets more than d additions (Higham 2002, 4.2). What underflows may
 * be flushed. */
static double sum_bound(double magnitude, int64_t terms)
{
    const double depth = (double)(terms < DEPTH_MOST ? terms : DEPTH_MOST) + (double)(terms / DEPTH_MOST) + 2;
    const double du = depth * unit_roundoff;
    return du / (1 - du) * magnitude + (double)terms * smallest_normal;
}

/* ---- convolution -------------------------------------------------------------------------------------------------- */

typedef struct conv_task {
    conv_shape s;
    const float *x, *weight, *bias, *dy;
    reference out;
    double *scratch; /* per worker */
    int64_t scratch_size;
} conv_task;

static int64_t at_least(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Values and magnitudes of one plane in double. */
static void widen(const float *from, int64_t count, double *value, double *magnitude)
{
    for (int64_t i = 0; i < count; i++) {
        value[i] = (double)from[i];
        magnitude[i] = fabs(value[i]);
    }
}

/* to[y, x] += w from[y + dy, x + dx] wherever both lie inside; likewise the magnitudes. */
static void add_shifted(const conv_shape *s, double w, int64_t dy, int64_t dx, const double *from,
                        const double *from_magnitude, double *to, double *to_magnitude)
{
    const double m = fabs(w);
    const int64_t x0 = at_least(0, -dx), x1 = at_most(s->w, s->w - dx);
    for (int64_t y = at_least(0, -dy); y < at_most(s->h, s->h - dy); y++) {
        const double *v = from + (y + dy) * s->w + dx, *a = from_magnitude + (y + dy) * s->w + dx;
        double *tv = to + y * s->w, *ta = to_magnitude + y * s->w;
        for (int64_t x = x0; x < x1; x++) {
            tv[x] += w * v[x];
            ta[x] += m * a[x];
        }
    }
}

/* to[i] += w from[i], and the magnitudes: a row of a linear layer. */
static void add_row(double w, const float *from, int64_t count, double *to, double *to_magnitude)
{
    for (int64_t i = 0; i < count; i++) {
        const double p = w * (double)from[i];
        to[i] += p;
        to_magnitude[i] += fabs(p);
    }
}

/* Σ a b and Σ |a b|, in as many columns as compilers need to use vectors. */
static void add_dot(const float *a, const float *b, int64_t count, double *sum, double *magnitude)
{
    enum { WIDTH = 8 };
    double v[WIDTH] = {0}, m[WIDTH] = {0};
    int64_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH)
        for (int64_t j = 0; j < WIDTH; j++) {
            const double p = (double)a[i + j] * (double)b[i + j];
            v[j] += p;
            m[j] += fabs(p);
        }
    for (; i < count; i++) {
        const double p = (double)a[i] * (double)b[i];
        v[0] += p;
        m[0] += fabs(p);
    }
    for (int64_t j = 0; j < WIDTH; j++) {
        *sum += v[j];
        *magnitude += m[j];
    }
}

static bool is_linear(const conv_shape *s)
{
    return s->h * s->w * s->k == 1;
}

static double *worker_scratch(const conv_task *t, int worker)
{
    return t->scratch + worker * t->scratch_size;
}

/* One sample's outputs. */
static void forward_sample(void *context, size_t n, int worker)
{
    const conv_task *t = context;
    const conv_shape *s = &t->s;
    const int64_t plane = s->h * s->w, half = s->k / 2;
    const float *sample = t->x + (int64_t)n * s->in * plane;
    double *x = worker_scratch(t, worker), *magnitude = x + s->in * plane;
    widen(sample, s->in * plane, x, magnitude);
    for (int64_t o = 0; o < s->out; o++) {
        const double b = (double)t->bias[o];
        double *y = t->out.value + ((int64_t)n * s->out + o) * plane,
               *a = t->out.bound + ((int64_t)n * s->out + o) * plane;
        for (int64_t i = 0; i < plane; i++) {
            y[i] = b;
            a[i] = fabs(b);
        }
        const float *w = t->weight + o * s->in * s->k * s->k;
        if (is_linear(s))
            add_dot(w, sample, s->in, y, a);
        for (int64_t c = 0; c < s->in && !is_linear(s); c++)
            for (int64_t ky = 0; ky < s->k; ky++)
                for (int64_t kx = 0; kx < s->k; kx++)
                    add_shifted(s, (double)*w++, ky - half, kx - half, x + c * plane, magnitude + c * plane, y, a);
        for (int64_t i = 0; i < plane; i++)
            a[i] = sum_bound(a[i], s->in * s->k * s->k + 1);
    }
}

static void linear_dx_sample(const conv_task *t, int64_t n)
{
    const int64_t in = t->s.in, out = t->s.out;
    double *dx = t->out.value + n * in, *a = t->out.bound + n * in;
    memset(dx, 0, (size_t)in * sizeof *dx);
    memset(a, 0, (size_t)in * sizeof *a);
    for (int64_t o = 0; o < out; o++)
        add_row((double)t->dy[n * out + o], t->weight + o * in, in, dx, a);
    for (int64_t c = 0; c < in; c++)
        a[c] = sum_bound(a[c], out);
}

/* One sample's derivative: each product goes back where it came from. */
static void dx_sample(void *context, size_t n, int worker)
{
    const conv_task *t = context;
    const conv_shape *s = &t->s;
    if (is_linear(s)) {
        linear_dx_sample(t, (int64_t)n);
        return;
    }
    const int64_t plane = s->h * s->w, half = s->k / 2;
    double *dy = worker_scratch(t, worker), *magnitude = dy + s->out * plane;
    widen(t->dy + (int64_t)n * s->out * plane, s->out * plane, dy, magnitude);
    for (int64_t c = 0; c < s->in; c++) {
        double *dx = t->out.value + ((int64_t)n * s->in + c) * plane,
               *a = t->out.bound + ((int64_t)n * s->in + c) * plane;
        memset(dx, 0, (size_t)plane * sizeof *dx);
        memset(a, 0, (size_t)plane * sizeof *a);
        for (int64_t o = 0; o < s->out; o++)
            for (int64_t ky = 0; ky < s->k; ky++)
                for (int64_t kx = 0; kx < s->k; kx++) {
                    const double w = (double)t->weight[((o * s->in + c) * s->k + ky) * s->k + kx];
                    add_shifted(s, w, half - ky, half - kx, dy + o * plane, magnitude + o * plane, dx, a);
                }
        for (int64_t i = 0; i < plane; i++)
            a[i] = sum_bound(a[i], s->out * s->k * s->k);
    }
}

/* Σ over one sample of dy[y, x] x[y + dy, x + dx]; sums of columns first, so that compilers use vectors. */
static void add_product(const conv_shape *s, int64_t dy, int64_t dx, const float *g, const float *x, double *sum,
                        double *magnitude)
{
    enum { WIDTH = 64 };
    double v[WIDTH] = {0}, a[WIDTH] = {0};
    const int64_t x0 = at_least(0, -dx), x1 = at_most(s->w, s->w - dx);
    for (int64_t y = at_least(0, -dy); y < at_most(s->h, s->h - dy); y++) {
        const float *gr = g + y * s->w, *xr = x + (y + dy) * s->w + dx;
        for (int64_t i = x0; i < x1; i++) {
            const double p = (double)gr[i] * (double)xr[i];
            v[i % WIDTH] += p;
            a[i % WIDTH] += fabs(p);
        }
    }
    for (int64_t i = 0; i < WIDTH && i < s->w; i++) {
        *sum += v[i];
        *magnitude += a[i];
    }
}

static void linear_dw_channel(const conv_task *t, int64_t o)
{
    const int64_t in = t->s.in, out = t->s.out;
    double *dw = t->out.value + o * in, *a = t->out.bound + o * in;
    memset(dw, 0, (size_t)in * sizeof *dw);
    memset(a, 0, (size_t)in * sizeof *a);
    for (int64_t n = 0; n < t->s.n; n++)
        add_row((double)t->dy[n * out + o], t->x + n * in, in, dw, a);
    for (int64_t c = 0; c < in; c++)
        a[c] = sum_bound(a[c], t->s.n);
}

/* The weights of one output channel. */
static void dw_channel(void *context, size_t o, int worker)
{
    const conv_task *t = context;
    const conv_shape *s = &t->s;
    const int64_t plane = s->h * s->w, half = s->k / 2;
    (void)worker;
    if (is_linear(s)) {
        linear_dw_channel(t, (int64_t)o);
        return;
    }
    for (int64_t c = 0; c < s->in; c++)
        for (int64_t ky = 0; ky < s->k; ky++)
            for (int64_t kx = 0; kx < s->k; kx++) {
                double sum = 0, magnitude = 0;
                for (int64_t n = 0; n < s->n; n++)
                    add_product(s, ky - half, kx - half, t->dy + (n * s->out + (int64_t)o) * plane,
                                t->x + (n * s->in + c) * plane, &sum, &magnitude);
                const int64_t i = (((int64_t)o * s->in + c) * s->k + ky) * s->k + kx;
                t->out.value[i] = sum;
                t->out.bound[i] = sum_bound(magnitude, s->n * plane);
            }
}

static bool run_samples(thread_pool *pool, conv_task *t, int64_t channels, void (*task)(void *, size_t, int))
{
    t->scratch_size = 2 * channels * t->s.h * t->s.w;
    t->scratch = host_realloc_array(NULL, (size_t)(t->scratch_size * thread_pool_size(pool)), sizeof *t->scratch);
    if (t->scratch == NULL)
        return false;
    thread_pool_run(pool, task, t, (size_t)t->s.n);
    host_free(t->scratch);
    return true;
}

bool reference_conv(thread_pool *pool, conv_shape s, const float *x, const float *weight, const float *bias,
                    reference y)
{
    return run_samples(pool, &(conv_task){.s = s, .x = x, .weight = weight, .bias = bias, .out = y}, s.in,
                       forward_sample);
}

bool reference_conv_dx(thread_pool *pool, conv_shape s, const float *dy, const float *weight, reference dx)
{
    return run_samples(pool, &(conv_task){.s = s, .dy = dy, .weight = weight, .out = dx}, s.out, dx_sample);
}

bool reference_conv_dw(thread_pool *pool, conv_shape s, const float *dy, const float *x, reference dw)
{
    thread_pool_run(pool, dw_channel, &(conv_task){.s = s, .dy = dy, .x = x, .out = dw}, (size_t)s.out);
    return true;
}

void reference_conv_db(conv_shape s, const float *dy, reference db)
{
    const int64_t plane = s.h * s.w;
    for (int64_t o = 0; o < s.out; o++) {
        double sum = 0, magnitude = 0;
        for (int64_t n = 0; n < s.n; n++)
            for (int64_t i = 0; i < plane; i++) {
                const double g = (double)dy[(n * s.out + o) * plane + i];
                sum += g;
                magnitude += fabs(g);
            }
        db.value[o] = sum;
        db.bound[o] = sum_bound(magnitude, s.n * plane);
    }
}

/* ---- cross entropy ------------------------------------------------------------------------------------------------ */

/* exp and log are within 2 ulp, so 4 u relative; the argument of exp carries the rounding of a difference. */
void reference_cross_entropy(int64_t rows, int64_t classes, const float *x, const int64_t *target, reference loss,
                             reference dx)
{
    const double u = unit_roundoff;
    double total = 0, magnitude = 0, error = 0;
    for (int64_t r = 0; r < rows; r++) {
        const float *row = x + r * classes;
        double top = -INFINITY, z = 0, spread = 0;
        for (int64_t c = 0; c < classes; c++)
            top = fmax(top, (double)row[c]);
        for (int64_t c = 0; c < classes; c++) {
            z += exp((double)row[c] - top);
            spread = fmax(spread, top - (double)row[c]);
        }
        const double lse = top + log(z), own = lse - (double)row[target[r]];
        /* of z, relative: the differences, exp, a sum of `classes` terms; then log and the last addition */
        const double lse_error = u * (spread + 4 + (double)classes + 4 * log(z) + fabs(lse));
        total += own;
        magnitude += fabs(own);
        error += lse_error + u * fabs(own);
        for (int64_t c = 0; c < classes; c++) {
            const double q = exp((double)row[c] - lse), y = c == target[r] ? 1 : 0;
            const double q_error = q * (lse_error + u * fabs((double)row[c] - lse) + 4 * u);
            dx.value[r * classes + c] = (q - y) / (double)rows;
            /* the difference, one over the rows, and the product are rounded once each */
            dx.bound[r * classes + c] = (q_error + 3 * u * (fabs(q - y) + q_error)) / (double)rows + smallest_normal;
        }
    }
    loss.value[0] = total / (double)rows;
    loss.bound[0] = (error + sum_bound(magnitude, rows)) / (double)rows + 2 * u * fabs(loss.value[0]);
}
