/* Opens cuBLASLt, if it is installed, and keeps it. */
#ifndef TESSERA_CUDA_CUBLASLT_H
#define TESSERA_CUDA_CUBLASLT_H

#include "cublaslt_api.h"

typedef struct cublaslt_api {
#define CUBLASLT_FIELD(returned, field, symbol, arguments) returned(*field) arguments;
    CUBLASLT_FUNCTIONS(CUBLASLT_FIELD)
#undef CUBLASLT_FIELD
    int major, minor, patch;
} cublaslt_api;

/* NULL, without an error, where it is absent: products then take the generic kernel. The first call decides. */
const cublaslt_api *cublaslt_load(int driver_version);

#endif
