/* What the parts of the program share. */
#ifndef CLASSIFY_H_
#define CLASSIFY_H_

#include <stddef.h>
#include <stdint.h>

/* Prints "classify: ..." on stderr and ends the program with status 1. */
__attribute__((noreturn, format(printf, 1, 2))) void fail(const char* format, ...);

void* allocate(size_t size); /* or fail */

/* --- picture.c: PNG and JPEG files ------------------------------------------------------------------------------ */

typedef struct picture {
  int width, height, channels; /* 1: grey, 3: RGB */
  uint8_t* pixels;             /* rows from the top, the channels of a pixel side by side; to be freed */
} picture;

/* Fails if the file cannot be read or is of another kind. Photographs are turned as their Exif says. */
picture read_picture(const char* path, int channels);

/* --- preparation.c: pictures to what a network takes ------------------------------------------------------------ */

typedef struct preparation {
  int channels, height, width; /* the network's */
  int resize;                  /* length of the shorter side before the middle is cut out; 0: as much as is possible */
  int stretch;                 /* cut nothing off */
  float mean[3], std[3];       /* of pixels / 255 */
} preparation;

/* Writes channels x height x width floats. */
void prepare(const preparation* how, const picture* from, float* to);

#endif /* CLASSIFY_H_ */
