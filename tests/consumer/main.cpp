// Sums a tensor on the CPU device from C++, with the handles owned by the language; prints the library's version.
#include <tessera/tessera.h>

#include <iostream>
#include <memory>
#include <vector>

int main()
{
    const std::unique_ptr<tsr_device, decltype(&tsr_device_close)> cpu(tsr_device_open("cpu"), tsr_device_close);
    const std::vector<float> values{1.0f, 2.0f, 3.0f, 4.5f};
    const int64_t shape[] = {4};

    const std::unique_ptr<tsr_tensor, decltype(&tsr_release)> x(
        tsr_from_data(cpu.get(), TSR_F32, 1, shape, values.data()), tsr_release);
    double sum = 0;
    const std::unique_ptr<tsr_tensor, decltype(&tsr_release)> total(tsr_sum(x.get(), nullptr, 0, false), tsr_release);
    if (tsr_item(total.get(), &sum) != TSR_OK) {
        std::cerr << tsr_last_error() << '\n';
        return 1;
    }
    if (sum != 10.5) {
        std::cerr << "the sum is " << sum << ", not 10.5\n";
        return 1;
    }
    std::cout << tsr_version() << '\n';
    return 0;
}
