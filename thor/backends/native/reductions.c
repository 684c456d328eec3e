/* Sums of squares, and whether all numbers are finite: everything is read once, by all cores. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { CHUNK = 1 << 16, LANES = 16 };

int64_t thor_size(int n_axes, const int64_t *shape) {
    int64_t size = 1;
    for (int i = 0; i < n_axes; i++)
        size *= shape[i];
    return size;
}

int thor_all_float32(int count, const char **dtypes) {
    for (int i = 0; i < count; i++)
        if (strcmp(dtypes[i], "float32") != 0)
            return 0;
    return 1;
}

/* Of a chunk: in several sums, which the processor adds to at once. */
static double squares_of(const float *x, int64_t count) {
    float sums[LANES] = {0};
    int64_t whole = count / LANES * LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int k = 0; k < LANES; k++)
            sums[k] += x[i + k] * x[i + k];
    double total = 0.0;
    for (int k = 0; k < LANES; k++)
        total += sums[k];
    for (int64_t i = whole; i < count; i++)
        total += (double)x[i] * x[i];
    return total;
}

struct chunks {
    const float **of;
    int64_t *sizes;
    double *sums;
};

static void add_squares(void *context, int64_t index, float *scratch) {
    (void)scratch;
    struct chunks *chunks = context;
    chunks->sums[index] = squares_of(chunks->of[index], chunks->sizes[index]);
}

/* The sum of squares of `count` tensors, in an order that does not depend on the threads. */
static int sum_of_squares(int count, void **data, int *n_axes, int64_t **shapes, double *total) {
    int64_t n_chunks = 0, next = 0;
    for (int i = 0; i < count; i++)
        n_chunks += ceil_div(thor_size(n_axes[i], shapes[i]), CHUNK);
    struct chunks chunks = {malloc((n_chunks + 1) * sizeof(float *)), malloc((n_chunks + 1) * sizeof(int64_t)),
                            malloc((n_chunks + 1) * sizeof(double))};
    int status = chunks.of && chunks.sizes && chunks.sums ? FINE : NO_MEMORY;
    for (int i = 0; i < count && status == FINE; i++)
        for (int64_t first = 0, size = thor_size(n_axes[i], shapes[i]); first < size; first += CHUNK, next++) {
            chunks.of[next] = (const float *)data[i] + first;
            chunks.sizes[next] = at_most(CHUNK, size - first);
        }
    if (status == FINE)
        status = thor_for_each(add_squares, &chunks, n_chunks, 0);
    *total = 0.0;
    for (int64_t i = 0; i < n_chunks && status == FINE; i++)
        *total += chunks.sums[i];
    free(chunks.of), free(chunks.sizes), free(chunks.sums);
    return status;
}

/* x -> sum of squares (1,) */
KERNEL(Squares) {
    (void)stream, (void)extra;
    double total;
    if (n_arguments != 2)
        return WRONG_COUNT;
    if (!thor_all_float32(2, dtypes))
        return WRONG_DTYPE;
    int status = sum_of_squares(1, data, n_axes, shapes, &total);
    ((float *)data[1])[0] = (float)total;
    return status;
}

/* tensors -> whether all numbers are finite and the norm of all is below 1e19, a bool () */
KERNEL(AllFinite) {
    (void)stream, (void)extra;
    double total;
    if (n_arguments < 2)
        return WRONG_COUNT;
    if (!thor_all_float32(n_arguments - 1, dtypes) || strcmp(dtypes[n_arguments - 1], "bool") != 0)
        return WRONG_DTYPE;
    int status = sum_of_squares(n_arguments - 1, data, n_axes, shapes, &total);
    ((uint8_t *)data[n_arguments - 1])[0] = isfinite((float)total);
    return status;
}
