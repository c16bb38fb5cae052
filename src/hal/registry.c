#include "hal/registry.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { WHY_SIZE = 512, NAME_SIZE = 96, BACKENDS_MOST = 16 };

void device_ref_id(device_ref ref, char *id, size_t size)
{
    snprintf(id, size, "%s:%u", ref.backend->name, (unsigned)ref.index);
}

/* Appends as much as fits: a message may be cut, never fail. */
static void append(char *target, size_t size, const char *separator, const char *what)
{
    const size_t used = strlen(target);
    snprintf(target + used, size - used, "%s%s", used > 0 ? separator : "", what);
}

/* "cpu:0, opencl:0, opencl:1", asking every backend. */
static void list_valid(const hal_backend *const *backends, char *list, size_t size)
{
    list[0] = '\0';
    for (; *backends != NULL; backends++) {
        char why[WHY_SIZE] = "";
        uint32_t count = 0;
        if ((*backends)->enumerate(&count, why, sizeof why) != TSR_OK)
            continue;
        for (uint32_t i = 0; i < count; i++) {
            char id[DEVICE_ID_SIZE];
            device_ref_id((device_ref){*backends, i}, id, sizeof id);
            append(list, size, ", ", id);
        }
    }
    if (list[0] == '\0')
        append(list, size, "", "none");
}

static const hal_backend *find_backend(const hal_backend *const *backends, const char *name)
{
    for (; *backends != NULL; backends++) {
        if (strcmp((*backends)->name, name) == 0)
            return *backends;
    }
    return NULL;
}

static tsr_status fail_unknown_backend(const hal_backend *const *backends, const char *string, const char *name)
{
    const char *names[BACKENDS_MOST];
    size_t count = 0;
    char built[128] = "", valid[512], hint[64] = "";
    for (; backends[count] != NULL && count < BACKENDS_MOST; count++) {
        names[count] = backends[count]->name;
        append(built, sizeof built, ", ", names[count]);
    }
    const char *near = nearest_word(name, names, count);
    if (near != NULL)
        snprintf(hint, sizeof hint, " Did you mean \"%s\"?", near);
    list_valid(backends, valid, sizeof valid);
    return fail(TSR_NO_DEVICE,
                "there is no device \"%s\": this build has no backend \"%s\" (it has %s).%s Devices here: %s", string,
                name, built, hint, valid);
}

static tsr_status count_devices(const hal_backend *const *backends, const hal_backend *backend, const char *string,
                                uint32_t *count)
{
    char why[WHY_SIZE] = "", valid[512];
    *count = 0;
    const tsr_status status = backend->enumerate(count, why, sizeof why);
    if (status != TSR_OK)
        return fail_prefix("device \"%s\"", string);
    if (*count > 0)
        return TSR_OK;
    list_valid(backends, valid, sizeof valid);
    /* The reason is a sentence with or without its full stop. */
    size_t length = strlen(why);
    while (length > 0 && (why[length - 1] == '.' || why[length - 1] == '\n'))
        why[--length] = '\0';
    return fail(TSR_NO_DEVICE, "there is no device \"%s\": %s. Devices here: %s", string,
                why[0] ? why : "the driver lists none", valid);
}

static tsr_status parse_index(const hal_backend *const *backends, const hal_backend *backend, const char *string,
                              const char *digits, device_ref *ref)
{
    uint64_t index = 0;
    bool number = digits[0] != '\0';
    for (const char *c = digits; *c != '\0'; c++) {
        number = number && isdigit((unsigned char)*c);
        if (number && index <= UINT32_MAX)
            index = index * 10 + (uint64_t)(*c - '0');
    }
    uint32_t count;
    const tsr_status status = count_devices(backends, backend, string, &count);
    if (status != TSR_OK)
        return status;
    if (number && index < count) {
        *ref = (device_ref){backend, (uint32_t)index};
        return TSR_OK;
    }

    char valid[512];
    list_valid(backends, valid, sizeof valid);
    if (!number)
        return fail(TSR_NO_DEVICE, "there is no device \"%s\": \"%s\" is no number. Devices here: %s", string, digits,
                    valid);
    if (count == 1)
        return fail(TSR_NO_DEVICE, "there is no device \"%s\": %s has 1 device, number 0. Devices here: %s", string,
                    backend->name, valid);
    return fail(TSR_NO_DEVICE, "there is no device \"%s\": %s has %u devices, numbers 0 to %u. Devices here: %s",
                string, backend->name, (unsigned)count, (unsigned)count - 1, valid);
}

/* Equal up to case and the dashes that some tools print. */
static bool same_uuid(const char *a, const char *b)
{
    for (;;) {
        while (*a == '-')
            a++;
        while (*b == '-')
            b++;
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b))
            return false;
        if (*a == '\0')
            return true;
        a++;
        b++;
    }
}

static tsr_status parse_uuid(const hal_backend *const *backends, const hal_backend *backend, const char *string,
                             const char *uuid, device_ref *ref)
{
    uint32_t count;
    const tsr_status status = count_devices(backends, backend, string, &count);
    if (status != TSR_OK)
        return status;

    char known[512] = "", same[256] = "";
    unsigned matches = 0;
    device_ref found = {NULL, 0};
    for (uint32_t i = 0; i < count; i++) {
        hal_device_info info = {.name = ""};
        char id[DEVICE_ID_SIZE], line[DEVICE_ID_SIZE + 64];
        if (backend->info(i, &info) != TSR_OK)
            continue;
        device_ref_id((device_ref){backend, i}, id, sizeof id);
        snprintf(line, sizeof line, "%s has %s", id, info.uuid[0] ? info.uuid : "none");
        append(known, sizeof known, ", ", line);
        if (info.uuid[0] != '\0' && same_uuid(info.uuid, uuid)) {
            if (matches++ == 0)
                found = (device_ref){backend, i};
            append(same, sizeof same, ", ", id);
        }
    }
    if (matches == 1) {
        *ref = found;
        return TSR_OK;
    }
    if (matches > 1)
        return fail(TSR_NO_DEVICE, "\"%s\" names %u devices, %s: say which by its number", string, matches, same);
    return fail(TSR_NO_DEVICE, "there is no device \"%s\": no %s device has that UUID (%s)", string, backend->name,
                known[0] ? known : "none tells one");
}

tsr_status registry_parse_in(const hal_backend *const *backends, const char *string, device_ref *ref)
{
    if (string == NULL || ref == NULL)
        return fail(TSR_INVALID_ARGUMENT, "a device name and a place for the device are needed, and one is NULL");
    *ref = (device_ref){NULL, 0};

    char name[NAME_SIZE];
    const size_t length = strcspn(string, ":");
    if (length == 0) {
        char valid[512];
        list_valid(backends, valid, sizeof valid);
        return fail(TSR_NO_DEVICE, "\"%s\" names no device. Devices here: %s", string, valid);
    }
    snprintf(name, sizeof name, "%.*s", (int)min_size(length, NAME_SIZE - 1), string);
    const hal_backend *backend = find_backend(backends, name);
    if (backend == NULL)
        return fail_unknown_backend(backends, string, name);

    const char *rest = string + length;
    if (strncmp(rest, "://", 3) == 0)
        return parse_uuid(backends, backend, string, rest + 3, ref);
    return parse_index(backends, backend, string, rest[0] == '\0' ? "0" : rest + 1, ref);
}

static tsr_status add_unique(device_ref refs[DEVICE_LIST_MAX], size_t *count, device_ref ref)
{
    for (size_t i = 0; i < *count; i++) {
        if (refs[i].backend == ref.backend && refs[i].index == ref.index)
            return TSR_OK;
    }
    if (*count == DEVICE_LIST_MAX)
        return fail(TSR_OUT_OF_RANGE, "more than %d devices in a list", DEVICE_LIST_MAX);
    refs[(*count)++] = ref;
    return TSR_OK;
}

/* A driver that fails to tell its devices must not keep the others from work. */
static tsr_status add_all(const hal_backend *const *backends, device_ref refs[DEVICE_LIST_MAX], size_t *count)
{
    tsr_status status = TSR_OK;
    for (; *backends != NULL && status == TSR_OK; backends++) {
        char why[WHY_SIZE] = "";
        uint32_t devices = 0;
        if ((*backends)->enumerate(&devices, why, sizeof why) != TSR_OK) {
            log_warn("%s is left out of \"all\": %s", (*backends)->name, tsr_last_error());
            continue;
        }
        for (uint32_t i = 0; i < devices && status == TSR_OK; i++)
            status = add_unique(refs, count, (device_ref){*backends, i});
    }
    return status;
}

tsr_status registry_parse_list_in(const hal_backend *const *backends, const char *string,
                                  device_ref refs[DEVICE_LIST_MAX], size_t *count)
{
    if (string == NULL || refs == NULL || count == NULL)
        return fail(TSR_INVALID_ARGUMENT, "a list of devices and a place for them are needed, and one is NULL");
    memset(refs, 0, DEVICE_LIST_MAX * sizeof *refs);
    *count = 0;

    for (const char *part = string;;) {
        part += strspn(part, " \t");
        const size_t whole = strcspn(part, ",");
        size_t length = whole;
        while (length > 0 && isspace((unsigned char)part[length - 1]))
            length--;

        char name[NAME_SIZE];
        snprintf(name, sizeof name, "%.*s", (int)min_size(length, NAME_SIZE - 1), part);
        tsr_status status;
        if (strcmp(name, "all") == 0) {
            status = add_all(backends, refs, count);
        } else {
            device_ref ref;
            status = registry_parse_in(backends, name, &ref);
            if (status == TSR_OK)
                status = add_unique(refs, count, ref);
        }
        if (status != TSR_OK)
            return status;
        if (part[whole] == '\0')
            break;
        part += whole + 1;
    }
    return *count > 0 ? TSR_OK : fail(TSR_NO_DEVICE, "there is no device at all on this machine");
}

tsr_status registry_parse(const char *string, device_ref *ref)
{
    return registry_parse_in(hal_backends, string, ref);
}

tsr_status registry_parse_list(const char *string, device_ref refs[DEVICE_LIST_MAX], size_t *count)
{
    return registry_parse_list_in(hal_backends, string, refs, count);
}
