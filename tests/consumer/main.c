/* Doubles a tensor on the CPU device; prints the library's version. */
#include <tessera/tessera.h>

#include <stdio.h>

int main(void)
{
    const float values[6] = {0.0f, 1.0f, -2.0f, 3.5f, -4.25f, 5.0f};
    const int64_t shape[2] = {2, 3};
    float doubled[6] = {0};

    tsr_device *cpu = tsr_device_open("cpu");
    tsr_scope_begin();
    tsr_tensor *x = tsr_from_data(cpu, TSR_F32, 2, shape, values);
    const tsr_status status = tsr_read_f32(tsr_add(x, x), doubled, 6);
    tsr_scope_end();
    tsr_device_close(cpu);

    if (status != TSR_OK) {
        fprintf(stderr, "%s\n", tsr_last_error());
        return 1;
    }
    for (int i = 0; i < 6; i++) {
        if (doubled[i] != 2.0f * values[i]) {
            fprintf(stderr, "element %d is %g, not %g\n", i, (double)doubled[i], (double)(2.0f * values[i]));
            return 1;
        }
    }
    printf("%s\n", tsr_version());
    return 0;
}
