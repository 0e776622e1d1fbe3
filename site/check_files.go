package site

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"strings"
)

// maxPEM bounds a certificate, key or authorities file: the authorities of a whole system are 220 KiB.
const maxPEM = 1 << 20

// pem reads a PEM file for a check, and reports when it cannot.
func (c *checker) pem(file, path string) ([]byte, bool) {
	data, err := c.read(file, maxPEM)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.wrong(path, "there is no file %s", file)
	case err != nil:
		c.wrong(path, "the file %s cannot be read: %v", file, err)
	}
	return data, err == nil
}

// pair checks that a certificate and its key can be read and belong together.
func (c *checker) pair(cert, key, path string) {
	chain, ok1 := c.pem(cert, path+".cert")
	secret, ok2 := c.pem(key, path+".key")
	if !ok1 || !ok2 {
		return
	}
	if block, _ := pem.Decode(chain); block == nil || block.Type != "CERTIFICATE" && !strings.Contains(string(chain), "BEGIN CERTIFICATE") {
		c.wrong(path+".cert", "the file %s holds no certificate in PEM form", cert)
		return
	}
	if _, err := tls.X509KeyPair(chain, secret); err != nil {
		at := path + ".key"
		if strings.Contains(err.Error(), "certificate") && !strings.Contains(err.Error(), "private key") {
			at = path + ".cert"
		}
		c.wrong(at, "the pair %s and %s cannot be used: %s", cert, key, strings.TrimPrefix(err.Error(), "tls: "))
	}
}

// authorities checks that a file holds at least one certificate. An empty name is no file.
func (c *checker) authorities(file, path string) {
	if file == "" {
		return
	}
	data, ok := c.pem(file, path)
	if ok && !x509.NewCertPool().AppendCertsFromPEM(data) {
		c.wrong(path, "the file %s holds no certificate in PEM form", file)
	}
}
