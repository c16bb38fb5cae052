/* Whether a document is JSON with no key twice. */
#include <jansson.h>
#include <stdbool.h>
#include <string.h>

bool is_json(const char *document);

bool is_json(const char *document)
{
    json_t *root = json_loadb(document, strlen(document), JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    const bool good = root != NULL;
    json_decref(root);
    return good;
}
