/* The C API of libbmx.
 *
 * Functions that can fail return 0 on success, otherwise another number, and bmx_last_error() has the reason.
 */
#ifndef BMX_H_
#define BMX_H_

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define BMX_API __declspec(dllexport)
#else
#define BMX_API __attribute__((visibility("default")))
#endif

/* "major.minor.patch" */
BMX_API const char* bmx_version(void);

/* Bits of the words of packed files that the converter writes by default: 32 or 64, as built. */
BMX_API int bmx_word_bits(void);

/* Sets *name to the kernels in use ("avx512", "avx2", "portable"); fails if BMX_ISA names kernels that this
 * machine does not run. The string lives as long as the library. */
BMX_API int bmx_isa(const char** name);

/* Why the last call of this thread failed; "" if none did. Valid until the thread's next failing call. */
BMX_API const char* bmx_last_error(void);

#ifdef __cplusplus
}
#endif

#endif /* BMX_H_ */
