package site

// Size is a number of bytes. In the file: 512B, 16KiB, 10MB, 1GiB; a rate in bytes carries /s.
type Size int64

// Rate is events per second. In the file: 100/s, 6000/m, 1000/h.
type Rate float64

// Percent is a share, 0.5 for 50%. In the file: 99.9%.
type Percent float64

// Secret is a text that is never printed. In the file: ${NAME} for an environment
// variable or file:PATH for the trimmed content of a file.
type Secret string
