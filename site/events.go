package site

import "time"

// Events is what the node remembers of what happened, and of single requests.
type Events struct {
	Off       bool           `yaml:"off" doc:"keep no events and no requests; the newest events are still shown"`
	Retention EventRetention `yaml:"retention" doc:"how much is kept; what comes first holds"`
	Requests  RequestRecords `yaml:"requests" doc:"which requests are kept one by one"`
	Query     EventQuery     `yaml:"query" doc:"what one question may cost"`
	Azure     *AzureLogs     `yaml:"azure" doc:"send what is kept on to a Log Analytics workspace, by the Logs Ingestion API of Azure Monitor"`
}

// EventRetention bounds what is kept.
type EventRetention struct {
	Time     time.Duration `yaml:"time" default:"30d" min:"1h" doc:"events, checks, metrics and summaries older than this are deleted"`
	Requests time.Duration `yaml:"requests" default:"7d" min:"1h" doc:"requests older than this are deleted; their summaries stay"`
	Size     Size          `yaml:"size" default:"256MiB" min:"8MiB" doc:"bytes of the file on disk; the oldest are deleted first; without state_dir never more than 64MiB"`
}

// RequestRecords says which requests are kept.
type RequestRecords struct {
	Off        bool    `yaml:"off" doc:"keep none"`
	Sample     Percent `yaml:"sample" default:"100%" min:"0%" max:"100%" doc:"largest share of requests that is kept; each kept one says for how many it stands"`
	Most       Rate    `yaml:"most" default:"20/s" min:"1/m" max:"1000/s" doc:"how many are kept about, of those that went well, and as many of those that failed or were refused; the share follows the traffic"`
	MaskClient bool    `yaml:"mask_client" default:"true" doc:"keep only the network of a client's address: /24 of IPv4, /48 of IPv6"`
}

// EventQuery bounds questions.
type EventQuery struct {
	Timeout time.Duration `yaml:"timeout" default:"10s" min:"100ms" max:"2m" doc:"a question that takes longer is ended"`
	Rows    int           `yaml:"rows" default:"10000" min:"1" max:"100000" doc:"rows that are shown of an answer, within 16 MiB"`
}

// AzureLogs is a data collection rule of Azure Monitor.
type AzureLogs struct {
	Endpoint string            `yaml:"endpoint" required:"true" form:"url" doc:"URL of the data collection endpoint, such as https://shop-x1y2.westeurope-1.ingest.monitor.azure.com"`
	Rule     string            `yaml:"rule" required:"true" doc:"immutable id of the data collection rule: dcr-…"`
	Streams  map[string]string `yaml:"streams" form:"name" doc:"table here: stream of the rule, such as AppEvents: Custom-AppEvents; absent: AppEvents and AppRequests by such names"`
	Every    time.Duration     `yaml:"every" default:"10s" min:"1s" max:"10m" doc:"time between two sends"`
	Tenant   string            `yaml:"tenant" doc:"Entra tenant of the client; empty: the machine's managed identity"`
	Client   string            `yaml:"client" doc:"application id; with an empty tenant that of a user-assigned identity"`
	Secret   Secret            `yaml:"secret" doc:"the client's secret"`
	CA       string            `yaml:"ca" form:"file" doc:"file of authorities for the endpoint; empty: the system's"`
	Token    Secret            `yaml:"token" doc:"a bearer token instead of all that, for receivers that are not Azure"`
}
