#include "device_list.h"

#include <stdio.h>
#include <string.h>

#include "command.h"

static int add_device(device_list *l, const char *flag, const char *id)
{
    if (l->count == DEVICES_MAX)
        return complain("--%s: at most %d devices", flag, DEVICES_MAX);
    const size_t i = l->count;
    tsr_device *d = tsr_device_open(id);
    if (d == NULL && tsr_last_status() == TSR_NO_DEVICE) {
        complain("%s", tsr_last_error());
        return EXIT_NO_DEVICE;
    }
    snprintf(l->info[i].id, sizeof l->info[i].id, "%.31s", id != NULL ? id : "default");
    if (d == NULL || tsr_device_describe(d, &l->info[i]) != TSR_OK) {
        l->status[i] = tsr_last_status();
        snprintf(l->error[i], sizeof l->error[i], "%s", tsr_last_error());
    }
    l->device[l->count++] = d;
    return EXIT_DONE;
}

static int add_all(device_list *l, const char *flag)
{
    tsr_device_info rows[DEVICES_MAX];
    size_t count = 0;
    int status = EXIT_DONE;
    if (tsr_device_list(rows, DEVICES_MAX, &count) != TSR_OK || count == 0) {
        complain("there is no device; tessera devices tells why");
        return EXIT_NO_DEVICE;
    }
    for (size_t i = 0; i < count && i < DEVICES_MAX && status == EXIT_DONE; i++)
        status = add_device(l, flag, rows[i].id);
    return status;
}

int device_list_open(device_list *l, const char *flag, const char *list)
{
    const char *rest = list;
    if (list == NULL)
        return add_device(l, flag, NULL);
    while (true) {
        char id[128];
        const size_t length = strcspn(rest, ",");
        if (length == 0)
            return complain("--%s %s: a name is missing beside a comma", flag, list);
        snprintf(id, sizeof id, "%.*s", (int)(length < sizeof id ? length : sizeof id - 1), rest);
        const int status = strcmp(id, "all") == 0 ? add_all(l, flag) : add_device(l, flag, id);
        if (status != EXIT_DONE || rest[length] == '\0')
            return status;
        rest += length + 1;
    }
}

void device_list_close(device_list *l)
{
    for (size_t i = 0; i < l->count; i++) {
        tsr_device_close(l->device[i]);
        l->device[i] = NULL;
    }
}
