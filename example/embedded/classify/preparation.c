/* Pictures to what a network takes, as `bmx run` makes it of them with Pillow: bilinear, and where a picture becomes
   smaller each result is the mean of all pixels that it covers, weighted by a triangle; first across, then down, with
   8 bits in between. (Pillow 13 goes down first where a picture is twice as high as wide or more, which may change a
   pixel by 1 of 255.) */
#include <math.h>
#include <stdlib.h>

#include "classify.h"

enum { PRECISION = 22 }; /* bits of weights behind the point */

/* For each of `count` results: the first of the pixels that it is made of, their number and their weights. */
typedef struct filter {
  int count, most; /* `most` pixels for a result */
  int *first, *taps;
  int32_t* weights; /* `most` for each result; their sum is 1, as a fixed-point number */
} filter;

/* The part of `size` pixels from `begin` to `end` becomes `count` results. */
static filter new_filter(int size, float begin, float end, int count) {
  const double scale = (double)(end - begin) / count, radius = fmax(scale, 1.0);
  filter made;
  double* shares;
  int i, k;
  made.count = count;
  made.most = 2 * (int)ceil(radius) + 1;
  made.first = allocate((size_t)count * sizeof(int));
  made.taps = allocate((size_t)count * sizeof(int));
  made.weights = allocate((size_t)count * made.most * sizeof(int32_t));
  shares = allocate((size_t)made.most * sizeof(double));
  for (i = 0; i < count; ++i) {
    const double middle = begin + (i + 0.5) * scale;
    const int first = (int)fmax(middle - radius + 0.5, 0.0), last = (int)fmin(middle + radius + 0.5, size);
    double sum = 0;
    made.first[i] = first;
    made.taps[i] = last - first;
    for (k = 0; k < made.taps[i]; ++k) {
      shares[k] = fmax(1.0 - fabs((first + k + 0.5 - middle) / radius), 0.0);
      sum += shares[k];
    }
    for (k = 0; k < made.taps[i]; ++k) {
      made.weights[i * made.most + k] = (int32_t)(shares[k] / sum * (1 << PRECISION) + 0.5);
    }
  }
  free(shares);
  return made;
}

static void free_filter(filter* old) {
  free(old->first);
  free(old->taps);
  free(old->weights);
}

/* Result i of pixels that lie `stride` bytes from each other. */
static uint8_t filtered(const filter* by, int i, const uint8_t* pixels, size_t stride) {
  const int32_t* weights = by->weights + (size_t)i * by->most;
  int32_t sum = 1 << (PRECISION - 1);
  int k;
  pixels += by->first[i] * stride;
  for (k = 0; k < by->taps[i]; ++k) sum += weights[k] * pixels[k * stride];
  sum >>= PRECISION;
  return (uint8_t)(sum > 255 ? 255 : sum);
}

static double at_least(double a, double b) { return a > b ? a : b; }

void prepare(const preparation* how, const picture* from, float* to) {
  const int width = how->width, height = how->height, channels = how->channels;
  const size_t pixel = (size_t)channels, row = pixel * width;
  float left = 0, top = 0, right = (float)from->width, bottom = (float)from->height;
  filter across, down;
  uint8_t* narrow;
  int x, y, c;
  if (!how->stretch) { /* what is seen: as much, or as --resize says, around the middle */
    const int shorter = from->width < from->height ? from->width : from->height;
    const double most = at_least((double)width / from->width, (double)height / from->height);
    const double scale = how->resize != 0 ? (double)how->resize / shorter : most;
    const double seen_width = width / scale, seen_height = height / scale;
    const double x0 = (from->width - seen_width) / 2, y0 = (from->height - seen_height) / 2;
    left = (float)at_least(0.0, x0);
    top = (float)at_least(0.0, y0);
    right = (float)-at_least(-from->width, -(x0 + seen_width));
    bottom = (float)-at_least(-from->height, -(y0 + seen_height));
  }
  across = new_filter(from->width, left, right, width);
  down = new_filter(from->height, top, bottom, height);
  narrow = allocate(row * from->height);
  for (y = 0; y < from->height; ++y) {
    const uint8_t* pixels = from->pixels + (size_t)y * from->width * pixel;
    for (x = 0; x < width; ++x) {
      for (c = 0; c < channels; ++c) narrow[y * row + x * pixel + c] = filtered(&across, x, pixels + c, pixel);
    }
  }
  for (c = 0; c < channels; ++c) {
    for (y = 0; y < height; ++y) {
      for (x = 0; x < width; ++x) {
        const uint8_t value = filtered(&down, y, narrow + x * pixel + c, row);
        *to++ = (value / 255.0f - how->mean[c]) / how->std[c];
      }
    }
  }
  free(narrow);
  free_filter(&across);
  free_filter(&down);
}
