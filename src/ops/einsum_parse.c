/* The text of an einsum: terms, ellipses, and the result where the text names none. */
#include <ctype.h>
#include <string.h>

#include "base/error.h"
#include "ops/einsum.h"

typedef struct reader {
    const char *text, *at;
    int ellipsis; /* the most dimensions that one stands for */
} reader;

bool einsum_has(const einsum_term *t, int64_t label)
{
    for (int i = 0; i < t->count; i++)
        if (t->labels[i] == label)
            return true;
    return false;
}

static bool refuse(const reader *r, const char *why)
{
    fail(TSR_INVALID_ARGUMENT, "einsum: '%s', at character %d: %s", r->text, (int)(r->at - r->text) + 1, why);
    return false;
}

static void skip_spaces(reader *r)
{
    while (*r->at == ' ')
        r->at++;
}

static bool add(const reader *r, einsum_term *t, int64_t label)
{
    if (t->count == TSR_MAX_RANK)
        return refuse(r, "more labels than a tensor has dimensions");
    t->labels[t->count++] = label;
    return true;
}

static int64_t label_of(char c)
{
    return c >= 'a' ? 26 + (c - 'a') : c - 'A';
}

/* Letters up to a comma, an arrow or the end; an ellipsis becomes the labels of the dimensions left. rank is -1 for the result. */
static bool read_term(reader *r, einsum_term *t, int rank)
{
    const char *begin = r->at;
    int letters = 0;
    for (const char *c = begin; *c != '\0' && *c != ',' && *c != '-'; c++)
        letters += isalpha((unsigned char)*c) != 0;
    bool seen = false;
    for (skip_spaces(r); *r->at != '\0' && *r->at != ',' && *r->at != '-'; skip_spaces(r)) {
        if (isalpha((unsigned char)*r->at)) {
            if (!add(r, t, label_of(*r->at)))
                return false;
            r->at++;
            continue;
        }
        if (strncmp(r->at, "...", 3) != 0 || seen)
            return refuse(r, seen ? "a second ellipsis" : "neither a letter, nor an ellipsis, a comma or an arrow");
        const int dims = rank < 0 ? r->ellipsis : rank - letters;
        for (int i = dims - 1; i >= 0; i--)
            if (!add(r, t, EINSUM_LABELS - 1 - i))
                return false;
        if (rank >= 0 && dims > r->ellipsis)
            r->ellipsis = dims;
        seen = true;
        r->at += 3;
    }
    if (rank >= 0 && (seen ? letters > rank : letters != rank)) {
        fail(TSR_INVALID_ARGUMENT, "einsum: '%s': '%.*s' names %d dimensions of an operand that has %d", r->text,
             (int)(r->at - begin), begin, letters, rank);
        return false;
    }
    return true;
}

/* Without an arrow: the ellipsis, then what occurs once, in the order of the alphabet. */
static bool implied(const reader *r, einsum_equation *e)
{
    int times[EINSUM_LABELS] = {0};
    for (int i = 0; i < e->count; i++)
        for (int k = 0; k < e->in[i].count; k++)
            times[e->in[i].labels[k]]++;
    for (int i = r->ellipsis - 1; i >= 0; i--)
        if (!add(r, &e->out, EINSUM_LABELS - 1 - i))
            return false;
    for (int label = 0; label < 52; label++)
        if (times[label] == 1 && !add(r, &e->out, label))
            return false;
    return true;
}

bool einsum_parse(const char *text, tensor *const *operands, int count, einsum_equation *e)
{
    reader r = {text, text, 0};
    *e = (einsum_equation){.count = count};
    for (int i = 0; i < count; i++) {
        if (!read_term(&r, &e->in[i], operands[i]->rank))
            return false;
        if (i + 1 < count && *r.at++ != ',') {
            r.at--;
            fail(TSR_INVALID_ARGUMENT, "einsum: '%s' has %d terms for %d operands", text, i + 1, count);
            return false;
        }
    }
    if (*r.at == ',') {
        fail(TSR_INVALID_ARGUMENT, "einsum: '%s' has more terms than there are operands, which are %d", text, count);
        return false;
    }
    if (*r.at == '\0')
        return implied(&r, e);
    if (strncmp(r.at, "->", 2) != 0)
        return refuse(&r, "an arrow is written ->");
    r.at += 2;
    if (!read_term(&r, &e->out, -1))
        return false;
    return *r.at == '\0' || refuse(&r, "nothing may follow the result");
}
