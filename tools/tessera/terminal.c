#include "terminal.h"

#include <langinfo.h>
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool utf8;

void terminal_begin(void)
{
    setlocale(LC_CTYPE, ""); /* not the numbers: they keep their point */
    utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

bool terminal_utf8(void)
{
    return utf8;
}

bool terminal_is(FILE *out)
{
    return isatty(fileno(out)) == 1;
}

int terminal_columns(FILE *out)
{
    struct winsize size;
    if (!terminal_is(out))
        return 0;
    if (ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    const char *columns = getenv("COLUMNS");
    const int n = columns != NULL ? atoi(columns) : 0;
    return n > 0 ? n : 80;
}

const char *terminal_style(FILE *out, style s)
{
    static const char *const sequences[] = {
        [STYLE_NONE] = "\033[0m",  [STYLE_BOLD] = "\033[1m", [STYLE_DIM] = "\033[2m",
        [STYLE_GOOD] = "\033[32m", [STYLE_BAD] = "\033[31m",
    };
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    if (!terminal_is(out) || (no_color != NULL && no_color[0] != '\0') || term == NULL || strcmp(term, "dumb") == 0)
        return "";
    return sequences[s];
}

/* One character of UTF-8: its number and length; a byte that begins none is U+FFFD. */
static size_t decode(const unsigned char *s, uint32_t *character)
{
    static const struct {
        unsigned char mask, value;
        uint32_t least;
    } forms[] = {{0x80, 0x00, 0}, {0xE0, 0xC0, 0x80}, {0xF0, 0xE0, 0x800}, {0xF8, 0xF0, 0x10000}};
    for (size_t n = 0; n < 4; n++) {
        if ((s[0] & forms[n].mask) != forms[n].value)
            continue;
        uint32_t c = s[0] & (unsigned char)~forms[n].mask;
        size_t i = 1;
        for (; i <= n && (s[i] & 0xC0) == 0x80; i++)
            c = c << 6 | (s[i] & 0x3F);
        if (i <= n || c < forms[n].least)
            break;
        *character = c;
        return n + 1;
    }
    *character = 0xFFFD;
    return 1;
}

/* The blocks that matter of Unicode's East Asian Width and of its combining marks. */
static int columns_of(uint32_t c)
{
    static const struct {
        uint32_t first, last;
        int columns;
    } ranges[] = {
        {0x0300, 0x036F, 0}, {0x0483, 0x0489, 0},   {0x0591, 0x05BD, 0},   {0x0610, 0x061A, 0},   {0x064B, 0x065F, 0},
        {0x1AB0, 0x1AFF, 0}, {0x1DC0, 0x1DFF, 0},   {0x200B, 0x200F, 0},   {0x202A, 0x202E, 0},   {0x20D0, 0x20FF, 0},
        {0xFE00, 0xFE0F, 0}, {0xFE20, 0xFE2F, 0},   {0x1100, 0x115F, 2},   {0x2E80, 0x303E, 2},   {0x3041, 0xA4CF, 2},
        {0xA960, 0xA97C, 2}, {0xAC00, 0xD7A3, 2},   {0xF900, 0xFAFF, 2},   {0xFE30, 0xFE6F, 2},   {0xFF00, 0xFF60, 2},
        {0xFFE0, 0xFFE6, 2}, {0x1F300, 0x1F64F, 2}, {0x1F680, 0x1F6FF, 2}, {0x1F900, 0x1F9FF, 2}, {0x20000, 0x3FFFD, 2},
    };
    if (c < 0x20 || (c >= 0x7F && c < 0xA0))
        return 0;
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (c >= ranges[i].first && c <= ranges[i].last)
            return ranges[i].columns;
    return 1;
}

size_t text_fit(const char *string, int columns)
{
    const unsigned char *s = (const unsigned char *)string;
    while (*s != '\0') {
        uint32_t c;
        const size_t n = decode(s, &c);
        columns -= columns_of(c);
        if (columns < 0)
            break;
        s += n;
    }
    return (size_t)((const char *)s - string);
}

int text_columns(const char *string)
{
    const unsigned char *s = (const unsigned char *)string;
    int columns = 0;
    while (*s != '\0') {
        uint32_t c;
        s += decode(s, &c);
        columns += columns_of(c);
    }
    return columns;
}
