/* Products whose operands are rounded to bfloat16, with sums in float32: AVX512-BF16 where the processor has it,
   plain loops elsewhere. A left operand lies row by row, a right one in pairs of rows: the instruction multiplies two
   neighbours along the inner axis and adds both products. */
#include <string.h>

#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define WITH_INSTRUCTIONS 1
#define INLINED __attribute__((always_inline)) static inline /* for the instructions of the function it is in */
#else
#define WITH_INSTRUCTIONS 0
#define INLINED static inline
#endif

enum { LANES = 16, VECTORS = 4, ROWS = 4 }; /* a tile of sums: ROWS by VECTORS registers of LANES numbers */

static int64_t even(int64_t value) { return (value + 1) / 2 * 2; }
static int64_t whole_lanes(int64_t value) { return ceil_div(value, LANES) * LANES; }

int thor_has_bfloat16(void) {
#if WITH_INSTRUCTIONS
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16");
#else
    return 0;
#endif
}

size_t thor_bfloat16_scratch(int64_t rows, int64_t inner, int64_t columns) {
    return (size_t)(even(inner) * (rows + whole_lanes(columns)) / 2 + 2 * LANES);
}

/* The upper half is the nearest bfloat16, ties to even; NaNs stay what they are, and do not become infinite. */
INLINED uint32_t rounded(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t up = bits + 0x7fff + (bits >> 16 & 1);
    return (bits & 0x7fffffff) > 0x7f800000 ? bits | 0x400000 : up;
}

/* x (rows, inner) -> (rows, even(inner)) */
INLINED void round_left(const float *x, int64_t stride, int64_t rows, int64_t inner, uint16_t *out) {
    for (int64_t i = 0; i < rows; i++, out += even(inner)) {
        for (int64_t k = 0; k < inner; k++)
            out[k] = (uint16_t)(rounded(x[i * stride + k]) >> 16);
        if (inner % 2 == 1)
            out[inner] = 0;
    }
}

/* y (inner, columns) -> (even(inner) / 2, whole_lanes(columns)) pairs, the upper row in the lower half */
INLINED void round_right(const float *y, int64_t stride, int64_t inner, int64_t columns, uint32_t *out) {
    int64_t width = whole_lanes(columns);
    for (int64_t k = 0; k < inner; k += 2, y += 2 * stride, out += width) {
        memset(out + columns, 0, (size_t)(width - columns) * sizeof *out);
        if (k + 1 < inner)
            for (int64_t j = 0; j < columns; j++)
                out[j] = rounded(y[j]) >> 16 | (rounded(y[stride + j]) & 0xffff0000u);
        else
            for (int64_t j = 0; j < columns; j++)
                out[j] = rounded(y[j]) >> 16;
    }
}

struct operands {
    const float *x, *y;
    int64_t x_stride, y_stride, rows, inner, columns;
    uint16_t *left;
    uint32_t *right;
};

INLINED void round_operands(const struct operands *of) {
    round_left(of->x, of->x_stride, of->rows, of->inner, of->left);
    round_right(of->y, of->y_stride, of->inner, of->columns, of->right);
}

#if WITH_INSTRUCTIONS
#define INSTRUCTIONS __attribute__((target("avx512f,avx512bf16")))

/* `rows` and `vectors` are constants where it is called, and the sums stay in registers. */
INSTRUCTIONS INLINED void multiply_tile(
    const uint16_t *x, int64_t inner, const uint32_t *y, int64_t width, float *out, int64_t stride, int64_t columns,
    const int rows, const int vectors) {
    __m512 sums[ROWS][VECTORS];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            sums[i][v] = _mm512_setzero_ps();
    for (int64_t k = 0; k < inner; k += 2, y += width) {
        __m512bh right[VECTORS];
        for (int v = 0; v < vectors; v++)
            right[v] = (__m512bh)_mm512_loadu_si512(y + v * LANES);
        for (int i = 0; i < rows; i++) {
            int32_t pair;
            memcpy(&pair, x + i * inner + k, sizeof pair);
            for (int v = 0; v < vectors; v++)
                sums[i][v] = _mm512_dpbf16_ps(sums[i][v], (__m512bh)_mm512_set1_epi32(pair), right[v]);
        }
    }
    for (int v = 0; v < vectors; v++) {
        int64_t left = columns - v * LANES;
        __mmask16 mask = (__mmask16)(left >= LANES ? 0xffff : (1 << left) - 1);
        for (int i = 0; i < rows; i++)
            _mm512_mask_storeu_ps(out + i * stride + v * LANES, mask, sums[i][v]);
    }
}

INSTRUCTIONS static void multiply_by_instructions(const struct operands *of, float *out, int64_t stride) {
    round_operands(of);
    int64_t width = whole_lanes(of->columns), inner = even(of->inner), rows = of->rows, j = 0;
    for (; j + VECTORS * LANES <= width; j += VECTORS * LANES) {
        const uint32_t *y = of->right + j;
        int64_t columns = of->columns - j, i = 0;
        for (; i + ROWS <= rows; i += ROWS)
            multiply_tile(of->left + i * inner, inner, y, width, out + i * stride + j, stride, columns, ROWS, VECTORS);
        for (; i < rows; i++)
            multiply_tile(of->left + i * inner, inner, y, width, out + i * stride + j, stride, columns, 1, VECTORS);
    }
    for (; j < width; j += LANES)
        for (int64_t i = 0; i < rows; i++)
            multiply_tile(of->left + i * inner, inner, of->right + j, width, out + i * stride + j, stride,
                          of->columns - j, 1, 1);
}
#endif

static float widened(uint32_t upper_half) {
    float value;
    memcpy(&value, &upper_half, sizeof value);
    return value;
}

static void multiply_by_loops(const struct operands *of, float *out, int64_t stride) {
    round_operands(of);
    int64_t width = whole_lanes(of->columns), inner = even(of->inner);
    const uint16_t *x = of->left;
    for (int64_t i = 0; i < of->rows; i++, out += stride, x += inner) {
        memset(out, 0, (size_t)of->columns * sizeof *out);
        for (int64_t k = 0; k < inner; k += 2) {
            float first = widened((uint32_t)x[k] << 16), second = widened((uint32_t)x[k + 1] << 16);
            const uint32_t *pairs = of->right + k / 2 * width;
            for (int64_t j = 0; j < of->columns; j++)
                out[j] += first * widened(pairs[j] << 16) + second * widened(pairs[j] & 0xffff0000u);
        }
    }
}

static struct operands operands_in(float *scratch, const float *x, int64_t x_stride, const float *y, int64_t y_stride,
                                   int64_t rows, int64_t inner, int64_t columns) {
    uint32_t *right = (uint32_t *)scratch;
    uint16_t *left = (uint16_t *)(right + even(inner) / 2 * whole_lanes(columns));
    struct operands operands = {x, y, x_stride, y_stride, rows, inner, columns, left, right};
    return operands;
}

void thor_multiply_bfloat16(const float *x, int64_t x_stride, const float *y, int64_t y_stride, float *out,
                            int64_t out_stride, int64_t rows, int64_t inner, int64_t columns, float *scratch) {
    struct operands operands = operands_in(scratch, x, x_stride, y, y_stride, rows, inner, columns);
#if WITH_INSTRUCTIONS
    if (thor_has_bfloat16()) {
        multiply_by_instructions(&operands, out, out_stride);
        return;
    }
#endif
    multiply_by_loops(&operands, out, out_stride);
}

/* The same on any processor. */
void thor_multiply_bfloat16_by_loops(const float *x, int64_t x_stride, const float *y, int64_t y_stride, float *out,
                                     int64_t out_stride, int64_t rows, int64_t inner, int64_t columns, float *scratch) {
    struct operands operands = operands_in(scratch, x, x_stride, y, y_stride, rows, inner, columns);
    multiply_by_loops(&operands, out, out_stride);
}
