package facts

import (
	"fmt"
	"io"
	"os"
)

// readFile reads a file of at most most bytes.
func readFile(path string, most int64) ([]byte, os.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Size() > most {
		return nil, nil, fmt.Errorf("%s has %d bytes, at most %d are read", path, info.Size(), most)
	}
	text, err := io.ReadAll(io.LimitReader(f, most))
	return text, info, err
}
