
const packed = Uint8Array.from(atob(document.getElementById("datatables").textContent), (sign) => sign.charCodeAt(0));
const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
const url = URL.createObjectURL(new Blob([await new Response(unpacked).arrayBuffer()], { type: "text/javascript" }));
const { default: DataTable } = await import(url);
URL.revokeObjectURL(url);

DataTable.ext.errMode = "throw";
const table = new DataTable("#leaderboard", {
  autoWidth: false,
  columnDefs: [
    { targets: "number", type: "num", orderSequence: ["desc", "asc"], searchable: false },
    { targets: ["rank", "text"], orderSequence: ["asc", "desc"] },
  ],
  layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
  order: [[0, "asc"]],
  paging: false,
});

const count = document.getElementById("count");
table.on("draw", () => {
  const { recordsDisplay, recordsTotal } = table.page.info();
  count.textContent = `${recordsDisplay} of ${recordsTotal} models`;
});

const search = document.getElementById("search");
search.addEventListener("input", () => table.search(search.value).draw());

let threatModel = "";
const ranks = (row) => JSON.parse(table.row(row).node().dataset.ranks);
table.search.fixed("threat model", (text, data, row) => threatModel in ranks(row));
for (const choice of document.getElementsByName("threat-model")) {
  choice.addEventListener("change", () => {
    threatModel = choice.value;
    table.columns("[data-threat-model]").every(function () {
      const ofColumn = this.header().dataset.threatModel;
      this.visible(!threatModel || !ofColumn || ofColumn === threatModel, false);
    });
    table.rows().every(function (row) {
      table.cell(row, 0).data(ranks(row)[threatModel] ?? "");
    });
    table.order([0, "asc"]).draw();
  });
}

const details = document.getElementById("details");
let detailed = null;
const show = (element) => {
  detailed = element;
  details.hidden = !detailed;
  if (!detailed) return;
  details.textContent = detailed.dataset.details;
  const place = detailed.getBoundingClientRect();
  const { width, height } = details.getBoundingClientRect();
  const margin = 4;
  const below = place.bottom + margin;
  const left = Math.min(place.left, document.documentElement.clientWidth - width - margin);
  details.style.left = `${Math.max(margin, left)}px`;
  details.style.top = `${below + height < window.innerHeight ? below : place.top - height - margin}px`;
};
for (const [start, end] of [["mouseover", "mouseout"], ["focusin", "focusout"]]) {
  document.addEventListener(start, (event) => show(event.target.closest("[data-details]")));
  document.addEventListener(end, () => show(null));
}
document.addEventListener("keydown", (event) => event.key === "Escape" && show(null));
// Moving the focus scrolls, too.
document.addEventListener("scroll", () => show(detailed), { capture: true, passive: true });

document.getElementById("controls").hidden = false;
table.draw();
