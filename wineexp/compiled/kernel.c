/* Sums of decision trees over flattened nodes, and the two links that follow them.
 *
 * Bit for bit what XGBoost and scikit-learn compute: the trees of a row are added one after the other, in the precision
 * of the library that grew them. Compile without -ffast-math and with -ffp-contract=off, or that is not so.
 */
#include <math.h>
#include <stdint.h>

/* The right child follows the left one; a leaf has left < 0, and the place of its values in `feature`. The highest bit
 * of `feature` says that a missing value goes left. */
struct node32 { float threshold; uint32_t feature; int32_t left; };
struct node64 { double threshold; uint32_t feature; int32_t left; };

#define MISSING_LEFT 0x80000000u
#define BLOCK 64

/* Trees of one precision. A tree adds `width` values, the first of them to the output `group`. */
struct trees {
    const void *nodes;
    const void *values;
    const int32_t *roots;
    const int32_t *groups;
    int64_t count, width, columns, outputs;
};

#define SUM(NAME, REAL, NODE, GOES_LEFT)                                                                            \
    void NAME(const struct trees *trees, const REAL *x, int64_t rows, REAL *out)                                    \
    {                                                                                                               \
        const struct NODE *nodes = trees->nodes;                                                                    \
        const REAL *values = trees->values;                                                                         \
        const int64_t width = trees->width;                                                                         \
        for (int64_t start = 0; start < rows; start += BLOCK) {                                                     \
            const int64_t end = start + BLOCK < rows ? start + BLOCK : rows;                                        \
            for (int64_t tree = 0; tree < trees->count; ++tree)                                                     \
                for (int64_t row = start; row < end; ++row) {                                                       \
                    const REAL *cells = x + row * trees->columns;                                                   \
                    const struct NODE *node = nodes + trees->roots[tree];                                           \
                    while (node->left >= 0) {                                                                       \
                        const REAL cell = cells[node->feature & ~MISSING_LEFT];                                     \
                        const int goes_left = (GOES_LEFT) | ((cell != cell) & (node->feature >> 31));               \
                        node = nodes + node->left + !goes_left;                                                     \
                    }                                                                                               \
                    REAL *sums = out + row * trees->outputs + trees->groups[tree];                                  \
                    const REAL *leaf = values + (int64_t)node->feature * width;                                     \
                    for (int64_t place = 0; place < width; ++place)                                                 \
                        sums[place] += leaf[place];                                                                 \
                }                                                                                                   \
        }                                                                                                           \
    }

SUM(wineexp_sum32, float, node32, cell < node->threshold)
SUM(wineexp_sum64, double, node64, cell <= node->threshold)

/* In place, as XGBoost does it: exponentials in single precision, their sum in double. */
void wineexp_softmax32(float *out, int64_t rows, int64_t outputs)
{
    for (float *row = out; row < out + rows * outputs; row += outputs) {
        float largest = row[0];
        for (int64_t place = 1; place < outputs; ++place)
            largest = fmaxf(row[place], largest);
        double sum = 0.0;
        for (int64_t place = 0; place < outputs; ++place) {
            row[place] = expf(row[place] - largest);
            sum += row[place];
        }
        for (int64_t place = 0; place < outputs; ++place)
            row[place] /= (float)sum;
    }
}

/* In place, as XGBoost does it: the largest exponent is the one whose exponential single precision holds. */
void wineexp_sigmoid32(float *out, int64_t count)
{
    for (int64_t place = 0; place < count; ++place)
        out[place] = 1.0f / (expf(fminf(-out[place], 88.7f)) + 1.0f + 1e-16f);
}

/* In place, as SciPy does it. */
void wineexp_sigmoid64(double *out, int64_t count)
{
    for (int64_t place = 0; place < count; ++place)
        out[place] = 1.0 / (1.0 + exp(-out[place]));
}
