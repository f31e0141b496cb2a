/* The C API of libbmx: runs compiled networks, .bmx files (docs/format.md), on one image or many.
 *
 *   bmx_model* model;
 *   bmx_session* session;
 *   if (bmx_model_load("lenet.bmx", &model) != 0 || bmx_session_new(model, 1, &session) != 0) {
 *     fprintf(stderr, "%s\n", bmx_last_error());
 *     exit(1);
 *   }
 *   const float* inputs[1] = {pixels};   // 1 x 28 x 28 floats, as bmx_model_input says
 *   float* outputs[1] = {scores};        // room for 10 floats
 *   if (bmx_session_run(session, 1, inputs, outputs) != 0) ...
 *   bmx_session_free(session);
 *   bmx_model_free(model);
 *
 * A function whose int result is neither a count nor a number of bits returns 0 on success. On failure it returns
 * another number, leaves its results untouched, and bmx_last_error() has the reason. Any number of threads may use a
 * model at once, but only one thread at a time a session. Link with -lbmx.
 */
#ifndef BMX_H_
#define BMX_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define BMX_API __declspec(dllexport)
#else
#define BMX_API __attribute__((visibility("default")))
#endif

/* --- The library ------------------------------------------------------------------------------------------------ */

/* "major.minor.patch" */
BMX_API const char* bmx_version(void);

/* Word size in bits of the packed files that the converter writes by default: 32 or 64, as built. */
BMX_API int bmx_word_bits(void);

/* Sets *name to the kernels in use ("amx", "avx512", "avx2", on ARM "neon_dot", "neon_fma", "neon"; "portable"); fails
 * if the environment variable BMX_ISA names kernels that this machine does not run. The string is never freed. The
 * first call of any function of the library asks Linux for permission to use AMX if the processor has it. From then on
 * signal stacks (sigaltstack) of the process need getauxval(AT_MINSIGSTKSZ) bytes. If Linux refuses, the kernels are
 * "avx512". */
BMX_API int bmx_isa(const char** name);

/* The kernels that this machine runs: values of BMX_ISA, fastest first, ending with NULL. Never freed. */
BMX_API const char* const* bmx_isas(void);

/* The reason why this thread's last failed call failed, in one line; "" if none failed. Valid until the thread's next
 * failing call. */
BMX_API const char* bmx_last_error(void);

/* --- Models ----------------------------------------------------------------------------------------------------- */

/* A compiled network: weights and steps. It never changes. */
typedef struct bmx_model bmx_model;

/* Maps a .bmx file into memory and checks it, in milliseconds. The file must not be changed or shortened while the
 * model lives; to replace it, write another file and rename it. */
BMX_API int bmx_model_load(const char* path, bmx_model** model);

/* The same from memory that holds a whole .bmx file. The bytes are copied. */
BMX_API int bmx_model_from_memory(const void* bytes, size_t size, bmx_model** model);

/* Frees a model. Its memory lives until its last session is freed too. NULL is allowed. */
BMX_API void bmx_model_free(bmx_model* model);

/* An input or output of a network. */
typedef struct bmx_array {
  const char* name;
  int dims;         /* 0 to 4, without the batch; 0: one number per image */
  int64_t shape[4]; /* as in MXNet: channels, height, width; unused entries are 0 */
  int64_t size;     /* numbers per image: the product of the shape */
} bmx_array;

/* A step of a network, for profiles. */
typedef struct bmx_step {
  const char* name; /* name of its layer */
  const char* kind; /* "CONV", "POOL", ... as in docs/format.md */
  int64_t macs;     /* multiply-adds per image */
  int64_t bytes;    /* bytes of tensors and weights that it reads and writes per image */
} bmx_step;

/* Strings returned by these and the following functions live as long as the model. */
BMX_API const char* bmx_model_name(const bmx_model* model);
BMX_API int bmx_model_num_inputs(const bmx_model* model);
BMX_API int bmx_model_num_outputs(const bmx_model* model);
BMX_API int bmx_model_num_steps(const bmx_model* model);

/* Describe input, output or step number `index`, from 0; they fail if it does not exist. */
BMX_API int bmx_model_input(const bmx_model* model, int index, bmx_array* input);
BMX_API int bmx_model_output(const bmx_model* model, int index, bmx_array* output);
BMX_API int bmx_model_step(const bmx_model* model, int index, bmx_step* step);

/* --- Sessions --------------------------------------------------------------------------------------------------- */

/* A model together with memory for the tensors of an image. Threads that run a model at the same time need one session
 * each; the sessions share the model's weights. */
typedef struct bmx_session bmx_session;

/* `threads` (1 to 1024): how many threads share the work of a run. One of them is the calling thread. The first run
 * starts the others; they go to sleep a millisecond after each run. */
BMX_API int bmx_session_new(const bmx_model* model, int threads, bmx_session** session);

/* NULL is allowed. */
BMX_API void bmx_session_free(bmx_session* session);

/* Runs the network on `batch` >= 0 images.
 *
 * inputs[i] has the `batch` images of input i one after the other, each bmx_array.size floats in the order of its
 * shape; outputs[i] has room for those of output i. If the batch is at least as large as the number of threads, each
 * thread takes whole images and has its own memory; otherwise the threads share each step.
 *
 * Fails if another thread is running this session. */
BMX_API int bmx_session_run(bmx_session* session, int64_t batch, const float* const* inputs, float* const* outputs);

/* Bytes of memory that a session holds for tensors and, with AMX, for weights that its threads expand. */
BMX_API int64_t bmx_session_bytes(const bmx_session* session);

/* Starts (1) or stops (0) measuring each step. While it measures, steps wait for each other, which costs a little. */
BMX_API int bmx_session_profile(bmx_session* session, int on);

/* Seconds that step `index` took since bmx_session_profile(session, 1), summed over all images. */
BMX_API int bmx_session_seconds(const bmx_session* session, int index, double* seconds);

#ifdef __cplusplus
}
#endif

#endif /* BMX_H_ */
