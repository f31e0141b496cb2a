/* Reads PNG and JPEG files, with libpng and libjpeg. */
#include <errno.h>
#include <stdio.h>
/* jpeglib.h needs stdio.h before it. */
#include <jerror.h>
#include <jpeglib.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "classify.h"

enum { MOST_PIXELS = 178956970 }; /* a picture that claims more is an attack rather than a photograph */

static picture new_picture(const char* path, unsigned long width, unsigned long height, int channels) {
  picture made;
  if (width == 0 || height == 0 || height > MOST_PIXELS / width) {
    fail("%s: cannot be read: it has %lu x %lu pixels", path, width, height);
  }
  made.width = (int)width;
  made.height = (int)height;
  made.channels = channels;
  made.pixels = allocate((size_t)channels * width * height);
  return made;
}

/* --- Orientation ------------------------------------------------------------------------------------------------ */

static unsigned number(const uint8_t* bytes, int count, int little) {
  unsigned sum = 0;
  int i;
  for (i = 0; i < count; ++i) sum = sum << 8 | bytes[little ? count - 1 - i : i];
  return sum;
}

/* The orientation, 1 to 8, in Exif data, which is a TIFF file: a header and a list of 12-byte entries. 1 is upright. */
static int orientation_in(const uint8_t* exif, size_t size) {
  enum { ORIENTATION = 0x0112, SHORT = 3 };
  size_t at, entries, i;
  int little;
  if (size < 14 || (memcmp(exif, "II*\0", 4) != 0 && memcmp(exif, "MM\0*", 4) != 0)) return 1;
  little = exif[0] == 'I';
  at = number(exif + 4, 4, little);
  if (at > size - 2) return 1;
  entries = number(exif + at, 2, little);
  for (i = 0, at += 2; i < entries && at + 12 <= size; ++i, at += 12) {
    if (number(exif + at, 2, little) == ORIENTATION && number(exif + at + 2, 2, little) == SHORT) {
      const unsigned found = number(exif + at + 8, 2, little);
      return found >= 1 && found <= 8 ? (int)found : 1;
    }
  }
  return 1;
}

/* Turns a picture upright. */
static picture upright(const char* path, picture from, int orientation) {
  const int swapped = orientation >= 5; /* rows are columns */
  const int mirrored_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const int mirrored_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  picture to;
  int x, y;
  if (orientation == 1) return from;
  to = new_picture(path, swapped ? from.height : from.width, swapped ? from.width : from.height, from.channels);
  for (y = 0; y < to.height; ++y) {
    for (x = 0; x < to.width; ++x) {
      const int column = swapped ? y : x, row = swapped ? x : y;
      const int from_x = mirrored_x ? from.width - 1 - column : column;
      const int from_y = mirrored_y ? from.height - 1 - row : row;
      memcpy(to.pixels + ((size_t)y * to.width + x) * to.channels,
             from.pixels + ((size_t)from_y * from.width + from_x) * to.channels, (size_t)to.channels);
    }
  }
  free(from.pixels);
  return to;
}

/* --- PNG -------------------------------------------------------------------------------------------------------- */

static void png_failed(png_structp png, png_const_charp message) {
  fail("%s: cannot be read: %s", (const char*)png_get_error_ptr(png), message);
}

static void png_warned(png_structp png, png_const_charp message) {
  (void)png;
  (void)message;
}

static picture read_png(const char* path, FILE* file) {
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, (void*)path, png_failed, png_warned);
  png_infop info = png == NULL ? NULL : png_create_info_struct(png);
  png_uint_32 exif_size = 0;
  png_bytep exif = NULL;
  png_bytepp rows;
  picture made;
  int y, orientation = 1;
  if (info == NULL) fail("%s: out of memory", path);
  png_init_io(png, file);
  png_read_info(png, info);
  png_set_expand(png); /* palettes, 1 to 4 bits */
  png_set_strip_16(png);
  png_set_strip_alpha(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  made =
      new_picture(path, png_get_image_width(png, info), png_get_image_height(png, info), png_get_channels(png, info));
  rows = allocate((size_t)made.height * sizeof(*rows));
  for (y = 0; y < made.height; ++y) rows[y] = made.pixels + (size_t)y * made.width * made.channels;
  png_read_image(png, rows);
  png_read_end(png, info);
  if (png_get_eXIf_1(png, info, &exif_size, &exif) != 0) orientation = orientation_in(exif, exif_size);
  free(rows);
  png_destroy_read_struct(&png, &info, NULL);
  return upright(path, made, orientation);
}

/* --- JPEG ------------------------------------------------------------------------------------------------------- */

static void jpeg_failed(j_common_ptr jpeg) {
  char message[JMSG_LENGTH_MAX];
  jpeg->err->format_message(jpeg, message);
  fail("%s: cannot be read: %s", (const char*)jpeg->client_data, message);
}

/* A file that ends too soon is an error here; other oddities, level -1, and traces are not. */
static void jpeg_warned(j_common_ptr jpeg, int level) {
  if (level == -1 && jpeg->err->msg_code == JWRN_JPEG_EOF) jpeg_failed(jpeg);
}

static int jpeg_orientation(jpeg_saved_marker_ptr marker) {
  static const char head[6] = "Exif\0";
  for (; marker != NULL; marker = marker->next) {
    if (marker->data_length > sizeof(head) && memcmp(marker->data, head, sizeof(head)) == 0) {
      return orientation_in(marker->data + sizeof(head), marker->data_length - sizeof(head));
    }
  }
  return 1;
}

static picture read_jpeg(const char* path, FILE* file) {
  struct jpeg_decompress_struct jpeg;
  struct jpeg_error_mgr errors;
  picture made;
  int orientation;
  jpeg.err = jpeg_std_error(&errors);
  errors.error_exit = jpeg_failed;
  errors.emit_message = jpeg_warned;
  jpeg_create_decompress(&jpeg);
  jpeg.client_data = (void*)path;
  jpeg_stdio_src(&jpeg, file);
  jpeg_save_markers(&jpeg, JPEG_APP0 + 1, 0xffff);
  jpeg_read_header(&jpeg, TRUE);
  if (jpeg.num_components != 1 && jpeg.num_components != 3) {
    fail("%s: has %d colours; allowed: grey and RGB", path, jpeg.num_components);
  }
  jpeg.out_color_space = jpeg.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
  made = new_picture(path, jpeg.image_width, jpeg.image_height, jpeg.num_components);
  jpeg_start_decompress(&jpeg);
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = made.pixels + (size_t)jpeg.output_scanline * made.width * made.channels;
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  orientation = jpeg_orientation(jpeg.marker_list);
  jpeg_finish_decompress(&jpeg);
  jpeg_destroy_decompress(&jpeg);
  return upright(path, made, orientation);
}

/* --- Both ------------------------------------------------------------------------------------------------------- */

static picture with_channels(const char* path, picture from, int channels) {
  const size_t count = (size_t)from.width * from.height;
  picture to;
  size_t i;
  if (from.channels == channels) return from;
  to = new_picture(path, from.width, from.height, channels);
  for (i = 0; i < count; ++i) {
    if (channels == 3) {
      memset(to.pixels + 3 * i, from.pixels[i], 3);
    } else { /* luma as of ITU-R 601, 0.299 R + 0.587 G + 0.114 B, in 16 bits */
      const uint8_t* rgb = from.pixels + 3 * i;
      to.pixels[i] = (uint8_t)((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 0x8000u) >> 16);
    }
  }
  free(from.pixels);
  return to;
}

picture read_picture(const char* path, int channels) {
  static const uint8_t png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'}, jpeg[3] = {0xff, 0xd8, 0xff};
  uint8_t head[8] = {0};
  FILE* file = fopen(path, "rb");
  picture made;
  if (file == NULL) fail("%s: cannot be read: %s", path, strerror(errno));
  if (fread(head, 1, sizeof(head), file) == 0 && ferror(file)) fail("%s: cannot be read: %s", path, strerror(errno));
  rewind(file);
  if (memcmp(head, png, sizeof(png)) == 0) {
    made = read_png(path, file);
  } else if (memcmp(head, jpeg, sizeof(jpeg)) == 0) {
    made = read_jpeg(path, file);
  } else {
    fail("%s: cannot be read: it is neither a PNG nor a JPEG file", path);
  }
  fclose(file);
  return with_channels(path, made, channels);
}
