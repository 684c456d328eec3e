/* Damped inverses of the blocks that are wanted, by Cholesky's factors; the others cost a copy. */
#include <math.h>
#include <string.h>

#include "kernels.h"

struct update {
    const float *blocks, *scale, *damping, *divisor, *wanted, *old;
    float *inverse, *accepted, *condition;
    int64_t size;
};

enum { LANES = 16 };

static int all_finite(const float *x, int64_t count) {
    float sums[LANES] = {0}; /* 0 x is not a number where x is not finite */
    int64_t whole = count / LANES * LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int k = 0; k < LANES; k++)
            sums[k] += 0.0f * x[i + k];
    for (int64_t i = whole; i < count; i++)
        sums[0] += 0.0f * x[i];
    for (int k = 1; k < LANES; k++)
        sums[0] += sums[k];
    return sums[0] == 0.0f;
}

static float largest_of_diagonal(const float *block, int64_t size) {
    float largest = block[0];
    for (int64_t i = 1; i < size; i++)
        largest = block[i * (size + 1)] > largest ? block[i * (size + 1)] : largest;
    return largest;
}

/* Replace a damped block M by its inverse: M = L L', W = L^-1, M^-1 = W' W. LAPACK's own way from L to the inverse takes
   twice as long for blocks of 128. Returns a lower bound of the condition number; 0 where the block was not finite or not
   positive definite. */
static float invert(float *block, int64_t size, float *inverse_factor) {
    static const float ONE = 1.0f, ZERO = 0.0f;
    int n = (int)size, failed = 0;
    float largest = largest_of_diagonal(block, size);
    if (!all_finite(block, size * size))
        return 0.0f;
    thor_blas.spotrf("L", &n, block, &n, &failed);
    if (failed != 0)
        return 0.0f;
    memset(inverse_factor, 0, size * size * sizeof(float));
    for (int64_t i = 0; i < size; i++)
        inverse_factor[i * (size + 1)] = 1.0f;
    thor_blas.strsm("L", "L", "N", "N", &n, &n, &ONE, block, &n, inverse_factor, &n);
    thor_blas.ssyrk("L", "T", &n, &n, &ONE, inverse_factor, &n, &ZERO, block, &n);
    for (int64_t i = 0; i < size; i++)
        if (!isfinite(block[i * (size + 1)]))
            return 0.0f;
    for (int64_t i = 0; i < size; i++)
        for (int64_t j = i + 1; j < size; j++)
            block[j * size + i] = block[i * size + j];
    return largest * largest_of_diagonal(block, size);
}

static void update_block(void *context, int64_t index, float *scratch) {
    const struct update *u = context;
    int64_t size = u->size, count = size * size;
    float *inverse = u->inverse + index * count, condition = 0.0f;
    if (u->wanted[index] > 0.0f) {
        for (int64_t i = 0; i < count; i++)
            inverse[i] = u->blocks[index * count + i] * u->scale[index];
        for (int64_t i = 0; i < size; i++)
            inverse[i * (size + 1)] += u->damping[index];
        condition = invert(inverse, size, scratch);
    }
    if (condition > 0.0f)
        for (int64_t i = 0; i < count; i++)
            inverse[i] /= u->divisor[index];
    else
        memcpy(inverse, u->old + index * count, count * sizeof(float));
    u->accepted[index] = condition > 0.0f ? 1.0f : 0.0f;
    u->condition[index] = condition;
}

/* blocks, scale, damping, divisor, wanted, old -> inverse, accepted, condition: Backend.updated_inverse */
KERNEL(UpdatedInverse) {
    (void)stream, (void)extra;
    if (n_arguments != 9)
        return WRONG_COUNT;
    if (!thor_all_float32(9, dtypes))
        return WRONG_DTYPE;
    if (n_axes[0] != 3 || shapes[0][1] != shapes[0][2])
        return WRONG_SHAPE;
    int64_t n_blocks = shapes[0][0], size = shapes[0][1];
    for (int i = 0; i < 9; i++) {
        int64_t expected = i == 0 || i == 5 || i == 6 ? n_blocks * size * size : n_blocks;
        if (thor_size(n_axes[i], shapes[i]) != expected)
            return WRONG_SHAPE;
    }
    if (thor_blas.spotrf == NULL)
        return NOT_BOUND;
    struct update u = {data[0], data[1], data[2], data[3], data[4], data[5], data[6], data[7], data[8], size};
    return thor_for_each(update_block, &u, n_blocks, (size_t)(size * size));
}
