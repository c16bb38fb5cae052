#include "backends/cpu/cpu.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The value of the first line "key : value" of /proc/cpuinfo. */
static bool cpuinfo(const char *key, char *value, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (file == NULL)
        return false;

    bool found = false;
    char line[512];
    while (!found && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');
        if (colon == NULL || strncmp(line, key, strlen(key)) != 0)
            continue;
        colon += 1 + strspn(colon + 1, " \t");
        snprintf(value, size, "%s", colon);
        size_t length = strlen(value);
        while (length > 0 && isspace((unsigned char)value[length - 1]))
            value[--length] = '\0';
        found = length > 0;
    }
    fclose(file);
    return found;
}

void cpu_host_name(char *name, size_t size)
{
    if (!cpuinfo("model name", name, size) && !cpuinfo("Model", name, size))
        snprintf(name, size, "CPU");
}

void cpu_host_vendor(char *vendor, size_t size)
{
    if (!cpuinfo("vendor_id", vendor, size))
        vendor[0] = '\0';
}

/* A control group's limit: a number of bytes, or "max". 0 if there is none. */
static uint64_t group_limit(const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    char line[64] = "";
    const bool read = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    return read && isdigit((unsigned char)line[0]) ? strtoull(line, NULL, 10) : 0;
}

uint64_t cpu_host_memory(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_C(1) << 32;

    static const char *const limits[] = {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        const uint64_t limit = group_limit(limits[i]);
        if (limit > 0 && limit < bytes)
            bytes = limit;
    }
    return bytes;
}

void cpu_host_prefer_huge_pages(void *address, size_t size)
{
#if defined(MADV_HUGEPAGE)
    (void)madvise(address, size, MADV_HUGEPAGE); /* advice: without it things are slower, not wrong */
#else
    (void)address;
    (void)size;
#endif
}
