/* A strict JSON reader for the tests of the command: json_check FILE [PATH…] fails unless FILE is one valid document, and prints
 * the value at each path ("runs.0.losses.#" is a count), a line each. "-" is standard input. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char text[1 << 24];
static const char *at;

static void wrong(const char *what)
{
    fprintf(stderr, "json_check: %s at byte %ld: %.40s\n", what, (long)(at - text), at);
    exit(1);
}

static void spaces(void)
{
    at += strspn(at, " \t\r\n");
}

static void expect(char c)
{
    if (*at != c)
        wrong("unexpected character");
    at++;
}

static void string(void)
{
    expect('"');
    for (; *at != '"'; at++) {
        if ((unsigned char)*at < 0x20)
            wrong("control character in a string");
        if (*at == '\\') {
            at++;
            if (*at == 'u') {
                if (strspn(at + 1, "0123456789abcdefABCDEF") < 4)
                    wrong("bad \\u");
                at += 4;
            } else if (strchr("\"\\/bfnrt", *at) == NULL || *at == '\0') {
                wrong("bad escape");
            }
        }
    }
    at++;
}

static void digits(void)
{
    const size_t n = strspn(at, "0123456789");
    if (n == 0)
        wrong("digit expected");
    at += n;
}

static void number(void)
{
    at += *at == '-';
    if (*at == '0')
        at++;
    else
        digits();
    if (*at == '.') {
        at++;
        digits();
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        at += *at == '+' || *at == '-';
        digits();
    }
}

/* Walks a value; prints it if `path` is "" and follows the path otherwise (NULL: nothing to find). Returns whether it was found. */
static int value(const char *path, int depth);

static int members(const char *path, char open, char close, int depth)
{
    int found = 0;
    long index = 0;
    expect(open);
    spaces();
    for (; *at != close; index++) {
        const char *rest = NULL;
        char key[64];
        if (index > 0) {
            expect(',');
            spaces();
        }
        if (open == '{') {
            const char *begin = at + 1;
            string();
            snprintf(key, sizeof key, "%.*s", (int)(at - 1 - begin), begin);
            spaces();
            expect(':');
            spaces();
        } else {
            snprintf(key, sizeof key, "%ld", index);
        }
        if (path != NULL && strncmp(path, key, strlen(key)) == 0 &&
            (path[strlen(key)] == '.' || path[strlen(key)] == '\0'))
            rest = path + strlen(key) + (path[strlen(key)] == '.');
        found += value(rest, depth + 1);
        spaces();
    }
    at++;
    if (path != NULL && strcmp(path, "#") == 0) {
        printf("%ld\n", index);
        found++;
    }
    return found;
}

static int value(const char *path, int depth)
{
    static const char *const words[] = {"true", "false", "null"};
    const char *begin = at;
    int found = 0;
    if (depth > 64)
        wrong("too deep");
    if (*at == '{' || *at == '[') {
        found = members(path, *at, *at == '{' ? '}' : ']', depth);
    } else if (*at == '"') {
        string();
    } else if (*at == '-' || (*at >= '0' && *at <= '9')) {
        number();
    } else {
        size_t i = 0;
        while (i < 3 && strncmp(at, words[i], strlen(words[i])) != 0)
            i++;
        if (i == 3)
            wrong("no value");
        at += strlen(words[i]);
    }
    if (path != NULL && path[0] == '\0') {
        printf("%.*s\n", (int)(at - begin), begin);
        found++;
    }
    return found;
}

static int document(const char *path)
{
    at = text;
    spaces();
    const int found = value(path, 0);
    spaces();
    if (*at != '\0')
        wrong("something after the document");
    return found;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    FILE *f = strcmp(argv[1], "-") == 0 ? stdin : fopen(argv[1], "rb");
    if (f == NULL) {
        fprintf(stderr, "json_check: cannot open %s\n", argv[1]);
        return 1;
    }
    const size_t size = fread(text, 1, sizeof text - 1, f);
    if (memchr(text, '\0', size) != NULL || size == sizeof text - 1) {
        fprintf(stderr, "json_check: a byte 0, or too long\n");
        return 1;
    }
    document(NULL);
    for (int i = 2; i < argc; i++)
        if (document(argv[i]) != 1) {
            fprintf(stderr, "json_check: nothing (or several) at %s\n", argv[i]);
            return 1;
        }
    return 0;
}
