/* The weight decays of single parameters in the optimizers' tests: OWN has another than the options' from the beginning, LATE from some step on. */
#ifndef TESSERA_TESTS_OPTIM_DECAY_H
#define TESSERA_TESTS_OPTIM_DECAY_H

#include <stdbool.h>

enum { OWN = 0, LATE = 2 };

static inline double decay_of(double decay, int parameter, bool late)
{
    if (parameter == OWN)
        return decay == 0 ? 0.02 : 0;
    return parameter == LATE && late ? 2 * decay + 0.01 : decay;
}

#endif
