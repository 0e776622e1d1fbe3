package otlp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/even-keel/evenkeel/site"
)

// Repeats of a message that a collector could not take: within the timeout of the site file.
const (
	againLow  = 250 * time.Millisecond
	againHigh = 5 * time.Second
)

// place is how a collector is reached. Everything is said to the exporters: their environment variables do not count, the site file does.
type place struct {
	cfg     *site.OTLP
	host    string
	path    string // of HTTP
	plain   bool
	headers map[string]string
	tls     *tls.Config
	client  *http.Client
}

// newPlace makes a place; path is where HTTP collectors take the signal.
func newPlace(cfg *site.OTLP, path string) (*place, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("%s is no URL: %w", cfg.URL, err)
	}
	p := &place{cfg: cfg, host: u.Host, path: path, plain: u.Scheme == "http", headers: map[string]string{}, tls: &tls.Config{MinVersion: tls.VersionTLS12}}
	if u.Path != "" && u.Path != "/" {
		p.path = u.Path
	}
	maps.Copy(p.headers, cfg.Headers)
	if cfg.Token != "" {
		p.headers["authorization"] = "Bearer " + string(cfg.Token)
	}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("authorities cannot be read: %w", err)
		}
		if p.tls.RootCAs = x509.NewCertPool(); !p.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate was found in %s", cfg.CA)
		}
	}
	p.client = &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1, IdleConnTimeout: 90 * time.Second, TLSClientConfig: p.tls, ForceAttemptHTTP2: true},
		// A redirect would show a token to another place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return p, nil
}

func (p *place) grpc() bool { return p.cfg.Protocol == "grpc" }

func (p *place) credentials() credentials.TransportCredentials {
	if p.plain {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(p.tls)
}

// traces makes the client for spans.
func (p *place) traces() otlptrace.Client {
	if p.grpc() {
		return otlptracegrpc.NewClient(otlptracegrpc.WithEndpoint(p.host), otlptracegrpc.WithTLSCredentials(p.credentials()), otlptracegrpc.WithHeaders(p.headers),
			otlptracegrpc.WithCompressor("gzip"), otlptracegrpc.WithTimeout(p.cfg.Timeout),
			otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: true, InitialInterval: againLow, MaxInterval: againHigh, MaxElapsedTime: p.cfg.Timeout}))
	}
	opts := []otlptracehttp.Option{otlptracehttp.WithEndpoint(p.host), otlptracehttp.WithURLPath(p.path), otlptracehttp.WithHTTPClient(p.client), otlptracehttp.WithHeaders(p.headers),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression), otlptracehttp.WithTimeout(p.cfg.Timeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: againLow, MaxInterval: againHigh, MaxElapsedTime: p.cfg.Timeout})}
	if p.plain {
		opts = append(opts, otlptracehttp.WithInsecure())
	}
	return otlptracehttp.NewClient(opts...)
}

// figures makes the exporter of figures.
func (p *place) figures(ctx context.Context) (sdkmetric.Exporter, error) {
	if p.grpc() {
		return otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpoint(p.host), otlpmetricgrpc.WithTLSCredentials(p.credentials()), otlpmetricgrpc.WithHeaders(p.headers),
			otlpmetricgrpc.WithCompressor("gzip"), otlpmetricgrpc.WithTimeout(p.cfg.Timeout),
			otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{Enabled: true, InitialInterval: againLow, MaxInterval: againHigh, MaxElapsedTime: p.cfg.Timeout}))
	}
	opts := []otlpmetrichttp.Option{otlpmetrichttp.WithEndpoint(p.host), otlpmetrichttp.WithURLPath(p.path), otlpmetrichttp.WithHTTPClient(p.client), otlpmetrichttp.WithHeaders(p.headers),
		otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression), otlpmetrichttp.WithTimeout(p.cfg.Timeout),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: true, InitialInterval: againLow, MaxInterval: againHigh, MaxElapsedTime: p.cfg.Timeout})}
	if p.plain {
		opts = append(opts, otlpmetrichttp.WithInsecure())
	}
	return otlpmetrichttp.New(ctx, opts...)
}

// records makes the exporter of log records.
func (p *place) records(ctx context.Context) (sdklog.Exporter, error) {
	if p.grpc() {
		return otlploggrpc.New(ctx, otlploggrpc.WithEndpoint(p.host), otlploggrpc.WithTLSCredentials(p.credentials()), otlploggrpc.WithHeaders(p.headers),
			otlploggrpc.WithCompressor("gzip"), otlploggrpc.WithTimeout(p.cfg.Timeout),
			otlploggrpc.WithRetry(otlploggrpc.RetryConfig{Enabled: true, InitialInterval: againLow, MaxInterval: againHigh, MaxElapsedTime: p.cfg.Timeout}))
	}
	opts := []otlploghttp.Option{otlploghttp.WithEndpoint(p.host), otlploghttp.WithURLPath(p.path), otlploghttp.WithHTTPClient(p.client), otlploghttp.WithHeaders(p.headers),
		otlploghttp.WithCompression(otlploghttp.GzipCompression), otlploghttp.WithTimeout(p.cfg.Timeout),
		otlploghttp.WithRetry(otlploghttp.RetryConfig{Enabled: true, InitialInterval: againLow, MaxInterval: againHigh, MaxElapsedTime: p.cfg.Timeout})}
	if p.plain {
		opts = append(opts, otlploghttp.WithInsecure())
	}
	return otlploghttp.New(ctx, opts...)
}
