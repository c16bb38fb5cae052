/* OpenBLAS, if the system has it: opened at run time, once a process, never closed (its threads outlive a close). */
#ifndef TESSERA_BACKENDS_CPU_OPENBLAS_H
#define TESSERA_BACKENDS_CPU_OPENBLAS_H

/* Values of cblas.h's enumerations. */
enum { BLAS_ROW_MAJOR = 101, BLAS_NO_TRANSPOSE = 111, BLAS_TRANSPOSE = 112 };

typedef struct openblas {
    struct dynlib *lib;
    void (*sgemm)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a,
                  int lda, const float *b, int ldb, float beta, float *c, int ldc);
    void (*dgemm)(int order, int transpose_a, int transpose_b, int m, int n, int k, double alpha, const double *a,
                  int lda, const double *b, int ldb, double beta, double *c, int ldc);
    void (*set_num_threads)(int threads);
    int (*get_num_threads)(void);
    char *(*get_config)(void);   /* optional */
    char *(*get_corename)(void); /* optional */
    char name[96];               /* "OpenBLAS 0.3.21 (Haswell)" */
    unsigned
        vector_bytes; /* of the kernels it chose, which on a processor younger than itself are an older one's; 0: unknown */
} openblas;

/* NULL, without an error, where it is not installed or its functions take 64-bit sizes. */
const openblas *openblas_get(void);

#endif
