/* einsum's texts on every device against a loop over all letters; what the numbers are held against in general is tools/operators. */
#include "tests/op_reference.h"

enum { SIDES = 26, OPERANDS_MOST = 4 };

/* Sizes of the letters a to h. */
static const int64_t sizes[] = {3, 4, 2, 5, 3, 2, 6, 1};

typedef struct row {
    const char *text;                 /* as given */
    const char *terms[OPERANDS_MOST]; /* of each operand, without ellipses: letters in their places */
    const char *result;
} row;

static const row rows[] = {
    {"ab,bc->ac", {"ab", "bc"}, "ac"},
    {" a b , b c -> c a ", {"ab", "bc"}, "ca"},
    {"ab,bc", {"ab", "bc"}, "ac"},
    {"ba,ca", {"ba", "ca"}, "bc"},
    {"ab", {"ab"}, "ab"},
    {"ba", {"ba"}, "ab"},
    {"ba->", {"ba"}, ""},
    {"aab->ab", {"aab"}, "ab"},
    {"aaa", {"aaa"}, ""},
    {"a,b->ab", {"a", "b"}, "ab"},
    {"a,a", {"a", "a"}, ""},
    {"abc,cbd->", {"abc", "cbd"}, ""},
    {",a->a", {"", "a"}, "a"},
    {"->", {""}, ""},
    {"...a,...a->...", {"bca", "bca"}, "bc"},
    {"...a,a...->...", {"bca", "abc"}, "bc"},
    {"...ab,bd->...ad", {"cab", "bd"}, "cad"},
    {"a...b,...->ab", {"acdb", "cd"}, "ab"},
    {"...,...", {"bc", "c"}, "bc"},
    {"a...->...a", {"abc"}, "bca"},
    {"...a->...", {"a"}, ""},
    {"ab,bc,cd->ad", {"ab", "bc", "cd"}, "ad"},
    {"a,ab,b->", {"a", "ab", "b"}, ""},
    {"ab,ac,ad,e->bd", {"ab", "ac", "ad", "e"}, "bd"},
    {"ha,hb->ab", {"ha", "hb"}, "ab"},
};

static int64_t place(const char *term, const int64_t *at)
{
    int64_t i = 0;
    for (; *term != '\0'; term++)
        i = i * sizes[*term - 'a'] + at[*term - 'a'];
    return i;
}

static int64_t shape_of(const char *term, int64_t *shape)
{
    int64_t n = 1;
    for (int d = 0; term[d] != '\0'; d++)
        n *= shape[d] = sizes[term[d] - 'a'];
    return n;
}

static void check(const run *r, const row *c)
{
    tsr_tensor *in[OPERANDS_MOST];
    double *values[OPERANDS_MOST];
    int64_t shape[8], at[SIDES] = {0}, all[SIDES];
    int count = 0, letters[SIDES], used = 0;
    require_ok(r, tsr_scope_begin());
    for (; count < OPERANDS_MOST && c->terms[count] != NULL; count++) {
        shape_of(c->terms[count], shape);
        in[count] = random_tensor(r, TSR_F32, (int)strlen(c->terms[count]), shape, INTEGERS, (uint32_t)(7 + count),
                                  &values[count]);
    }
    for (int l = 0; l < (int)(sizeof sizes / sizeof *sizes); l++) {
        bool there = false;
        for (int k = 0; k < count; k++)
            there = there || strchr(c->terms[k], 'a' + l) != NULL;
        if (there) {
            letters[used] = l;
            all[used++] = sizes[l];
        }
    }
    const int64_t n = shape_of(c->result, shape), terms = count_of(used, all);
    double *expected = calloc((size_t)n + 1, sizeof *expected);
    assert_non_null(expected);
    for (int64_t i = 0; i < terms; i++) {
        double product = 1;
        for (int64_t k = used - 1, rest = i; k >= 0; rest /= all[k--])
            at[letters[k]] = rest % all[k];
        for (int k = 0; k < count; k++)
            product *= values[k][place(c->terms[k], at)];
        expected[place(c->result, at)] += product;
    }
    tsr_tensor *y = tsr_einsum(c->text, in, count);
    require(r, y);
    assert_int_equal(tsr_rank(y), strlen(c->result));
    assert_memory_equal(tsr_shape(y), shape, sizeof *shape * strlen(c->result));
    compare(r, c->text, y, expected, expected, 1, INTEGERS);
    free(expected);
    for (int k = 0; k < count; k++)
        free(values[k]);
    require_ok(r, tsr_scope_end());
}

static void texts_on(const run *r)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check(r, &rows[i]);
}

static void test_texts(void **state)
{
    (void)state;
    on_every_device(texts_on);
}

/* Of three operands: the derivative goes through both products. */
static void gradient_on(const run *r)
{
    double *v[3], *d[3];
    static const int64_t shapes[3][2] = {{3, 4}, {4, 2}, {2, 5}};
    tsr_tensor *x[3];
    require_ok(r, tsr_scope_begin());
    for (int k = 0; k < 3; k++) {
        x[k] = random_tensor(r, TSR_F32, 2, shapes[k], INTEGERS, (uint32_t)(17 + k), &v[k]);
        require_ok(r, tsr_set_requires_grad(x[k], true));
    }
    require_ok(r, tsr_backward(tsr_einsum("ab,bc,cd->", x, 3)));
    for (int k = 0; k < 3; k++)
        d[k] = values_of(r, tsr_grad(x[k]));
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 4; b++)
            for (int c = 0; c < 2; c++)
                for (int e = 0; e < 5; e++) {
                    d[0][a * 4 + b] -= v[1][b * 2 + c] * v[2][c * 5 + e];
                    d[1][b * 2 + c] -= v[0][a * 4 + b] * v[2][c * 5 + e];
                    d[2][c * 5 + e] -= v[0][a * 4 + b] * v[1][b * 2 + c];
                }
    for (int k = 0; k < 3; k++) {
        for (int64_t i = 0; i < shapes[k][0] * shapes[k][1]; i++)
            assert_true(d[k][i] == 0);
        free(v[k]);
        free(d[k]);
    }
    require_ok(r, tsr_scope_end());
}

static void test_gradient(void **state)
{
    (void)state;
    on_every_device(gradient_on);
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        /* of operands [3, 4] and [4, 2] */
        {"ab,bc,c->a", "more terms than there are operands"},
        {"abc,bc->a", "'abc' names 3 dimensions of an operand that has 2"},
        {"a,bc->a", "'a' names 1 dimensions"},
        {"...abc,bc", "names 3 dimensions"},
        {"ab,bc->ad", "a label that no operand has"},
        {"ab,bc->aa", "a label twice"},
        {"ab,cb->ac", "a label stands for size 4"},
        {"ab,aa->b", "a label stands for sizes 4 and 2"},
        {"a1,bc->a", "at character 2: neither a letter"},
        {"ab,bc=>a", "at character 6: neither a letter"},
        {"ab,bc->ac,", "nothing may follow the result"},
        {"ab,bc-a", "an arrow is written ->"},
        {"......,bc", "a second ellipsis"},
    };
    tsr_device *cpu = tsr_device_open("cpu");
    assert_int_equal(tsr_scope_begin(), TSR_OK);
    tsr_tensor *in[] = {tsr_zeros(cpu, TSR_F32, 2, (int64_t[]){3, 4}), tsr_zeros(cpu, TSR_F32, 2, (int64_t[]){4, 2})};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (tsr_einsum(bad[i].text, in, 2) != NULL)
            fail_msg("'%s' was taken", bad[i].text);
        if (strstr(tsr_last_error(), bad[i].says) == NULL)
            fail_msg("of '%s': '%s' does not say '%s'", bad[i].text, tsr_last_error(), bad[i].says);
        tsr_clear_error();
    }
    assert_null(tsr_einsum("ab->a", in, 2));
    assert_non_null(strstr(tsr_last_error(), "has 1 terms for 2 operands"));
    assert_null(tsr_einsum(NULL, in, 2));
    assert_null(tsr_einsum("ab,bc", in, 0));
    assert_null(tsr_einsum("ab,bc", in, 17));
    tsr_clear_error();
    assert_null(tsr_einsum("ab,bc", (tsr_tensor *[]){in[0], NULL}, 2));
    assert_string_equal(tsr_last_error(), "");
    assert_null(tsr_einsum("abcdefgh,ijklmnop->a", in, 2));
    assert_int_equal(tsr_scope_end(), TSR_OK);
    tsr_device_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts), cmocka_unit_test(test_gradient),
                                       cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
