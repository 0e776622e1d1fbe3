package wire

// ID names a known field, so that stages compare one byte where they would compare text.
type ID uint8

// The known fields.
const (
	Other ID = iota
	Host
	Connection
	KeepAlive
	ProxyConnection
	TransferEncoding
	ContentLength
	Upgrade
	TE
	Trailer
	Expect
	Forwarded
	XForwardedFor
	XForwardedProto
	XForwardedHost
	XRequestID
	Traceparent
	Cookie
	SetCookie
	Accept
	ContentType
	Authorization
	Date
	Server
	Via
	RetryAfter
	Location
	UserAgent
	Referer
	HTTP2Settings
)
