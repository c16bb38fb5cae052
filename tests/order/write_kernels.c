/* Writes, for order_kernels.c, what every kernel of the catalogue declares that it does to its bindings, found by its SPIR-V. */
#include "dispatch/catalogue.h"
#include "order_kernels.h"

#include <inttypes.h>
#include <stdio.h>

static void write_numbers(FILE *file, const uint8_t *numbers, uint32_t count)
{
    fprintf(file, count > 0 ? "{" : "{0");
    for (uint32_t i = 0; i < count; i++)
        fprintf(file, "%s%u", i > 0 ? ", " : "", (unsigned)numbers[i]);
    fprintf(file, "}");
}

int main(int argc, char **argv)
{
    FILE *file = argc == 2 ? fopen(argv[1], "w") : NULL;
    if (file == NULL) {
        fprintf(stderr, "usage: write_kernels FILE\n");
        return 2;
    }
    for (size_t i = 0; i < kernel_catalogue_count; i++) {
        const kernel_entry *e = &kernel_catalogue[i];
        if (e->spirv == NULL)
            continue;
        fprintf(file, "{UINT64_C(0x%016" PRIx64 "), %zu, \"%s\", %u, ", order_kernel_sum(e->spirv, e->spirv_bytes),
                e->spirv_bytes, e->key, (unsigned)e->binding_count);
        write_numbers(file, e->access, e->binding_count);
        fprintf(file, ", ");
        write_numbers(file, e->element_bytes, e->binding_count);
        fprintf(file, "},\n");
    }
    return fclose(file) == 0 ? 0 : 1;
}
