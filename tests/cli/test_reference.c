/* The references of `tessera train --lockstep` against their definitions, spelled out index by index; and that they notice a term that is
 * missing. */
#include "unit.h"

#include "base/compiler.h"
#include "base/memory.h"
#include "reference.h"

#include <math.h>
#include <string.h>

static uint32_t seed = 1;

/* Whole numbers from -4 to 4: their sums are exact in f32, too. */
static void fill(float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)((int)(seed >> 24) % 9 - 4);
    }
}

enum { ROOM = 4096 };

typedef struct workspace {
    float x[ROOM], w[ROOM], b[ROOM], dy[ROOM];
    double value[ROOM], bound[ROOM], expected[ROOM], magnitude[ROOM];
} workspace;

/* Which product of x and w belongs to which y is said once, here. */
static void define(const conv_shape *s, workspace *m, int what)
{
    const int64_t sizes[] = {s->n * s->out * s->h * s->w, s->n * s->in * s->h * s->w, s->out * s->in * s->k * s->k};
    memset(m->expected, 0, sizeof m->expected);
    memset(m->magnitude, 0, sizeof m->magnitude);
    for (int64_t yi = 0; yi < sizes[0]; yi++) {
        const int64_t ox = yi % s->w, oy = yi / s->w % s->h, o = yi / (s->w * s->h) % s->out,
                      n = yi / (s->w * s->h * s->out);
        if (what == 0) {
            m->expected[yi] = (double)m->b[o];
            m->magnitude[yi] = fabs((double)m->b[o]);
        }
        for (int64_t wi = o * s->in * s->k * s->k; wi < (o + 1) * s->in * s->k * s->k; wi++) {
            const int64_t ix = ox + wi % s->k - s->k / 2, iy = oy + wi / s->k % s->k - s->k / 2,
                          c = wi / (s->k * s->k) % s->in;
            if (ix < 0 || iy < 0 || ix >= s->w || iy >= s->h)
                continue;
            const int64_t xi = ((n * s->in + c) * s->h + iy) * s->w + ix, to[] = {yi, xi, wi};
            const double factors[] = {(double)m->x[xi] * (double)m->w[wi], (double)m->dy[yi] * (double)m->w[wi],
                                      (double)m->dy[yi] * (double)m->x[xi]};
            m->expected[to[what]] += factors[what];
            m->magnitude[to[what]] += fabs(factors[what]);
        }
    }
}

static void check(const workspace *m, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        assert_true(m->value[i] == m->expected[i]);
        /* at least the rounding of one addition, and never so much that a dropped term of size 1 could hide */
        assert_true(m->bound[i] >= m->magnitude[i] * 0x1p-24 && m->bound[i] < 1);
    }
}

static void follows_the_definition(void **state)
{
    static const conv_shape shapes[] = {
        {1, 1, 1, 1, 1, 1}, {3, 5, 4, 1, 1, 1}, {2, 37, 11, 1, 1, 1}, {2, 2, 3, 4, 5, 3},
        {1, 3, 2, 7, 6, 5}, {2, 1, 4, 9, 3, 5}, {1, 2, 2, 1, 8, 3},
    };
    thread_pool *pool = thread_pool_create(2);
    workspace *m = host_alloc(sizeof *m);
    (void)state;
    assert_non_null(pool);
    assert_non_null(m);
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const conv_shape s = shapes[i];
        const int64_t plane = s.h * s.w;
        const reference out = {m->value, m->bound};
        fill(m->x, s.n * s.in * plane);
        fill(m->w, s.out * s.in * s.k * s.k);
        fill(m->b, s.out);
        fill(m->dy, s.n * s.out * plane);
        assert_true(reference_conv(pool, s, m->x, m->w, m->b, out));
        define(&s, m, 0);
        check(m, s.n * s.out * plane);
        assert_true(reference_conv_dx(pool, s, m->dy, m->w, out));
        define(&s, m, 1);
        check(m, s.n * s.in * plane);
        assert_true(reference_conv_dw(pool, s, m->dy, m->x, out));
        define(&s, m, 2);
        check(m, s.out * s.in * s.k * s.k);
        reference_conv_db(s, m->dy, out);
        for (int64_t o = 0; o < s.out; o++) {
            double sum = 0;
            for (int64_t k = 0; k < s.n * plane; k++)
                sum += (double)m->dy[(k / plane * s.out + o) * plane + k % plane];
            assert_true(m->value[o] == sum);
        }
    }
    host_free(m);
    thread_pool_destroy(pool);
}

static double loss_of(const double *x, int64_t rows, int64_t classes, const int64_t *target)
{
    double total = 0;
    for (int64_t r = 0; r < rows; r++) {
        double z = 0;
        for (int64_t c = 0; c < classes; c++)
            z += exp(x[r * classes + c]);
        total += log(z) - x[r * classes + target[r]];
    }
    return total / (double)rows;
}

/* The gradient against differences of the loss. */
static void cross_entropy_follows_its_derivative(void **state)
{
    enum { ROWS = 3, CLASSES = 5, COUNT = ROWS * CLASSES };
    const int64_t target[ROWS] = {4, 0, 2};
    float x[COUNT];
    double wide[COUNT], value[COUNT], bound[COUNT], loss, loss_bound;
    (void)state;
    fill(x, COUNT);
    for (int i = 0; i < COUNT; i++)
        wide[i] = (double)x[i];
    reference_cross_entropy(ROWS, CLASSES, x, target, (reference){&loss, &loss_bound}, (reference){value, bound});
    assert_true(fabs(loss - loss_of(wide, ROWS, CLASSES, target)) < 1e-14 * 10);
    assert_true(loss_bound > 0 && loss_bound < 1e-5);
    for (int i = 0; i < COUNT; i++) {
        const double h = 1e-5, at = wide[i];
        wide[i] = at + h;
        const double above = loss_of(wide, ROWS, CLASSES, target);
        wide[i] = at - h;
        const double below = loss_of(wide, ROWS, CLASSES, target);
        wide[i] = at;
        assert_true(fabs(value[i] - (above - below) / (2 * h)) < 1e-9);
        assert_true(bound[i] > 0 && bound[i] < 1e-5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_the_definition),
        cmocka_unit_test(cross_entropy_follows_its_derivative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
