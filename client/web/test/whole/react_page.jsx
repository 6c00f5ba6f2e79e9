// A page with the hook of `examples/use-recommendations.jsx`, in React itself. See `shop.mjs`.
import { createElement } from "react";
import { createRoot } from "react-dom/client";
import { useRecommendations } from "../../examples/use-recommendations.jsx";

const OPTIONS = {
  app: "react",
  service: { publicKey: "3b60a165e4bb4d70ac4b5153e4b41b3cbfd970cebff24e4305569cad68842ee7", population: "sample: made readers, no rounds" },
  model: "/repository/simulations/palate/sample_model/",
  text: "2026-11",
};

function Shelf() {
  const { list, error, did, agreed, agree } = useRecommendations(OPTIONS, 5);
  const books = list.map(({ item, reason }) => createElement("li", { key: item, onClick: () => did(item, "view") }, `${item}: ${reason}`));
  const box = createElement("input", { id: "agree", type: "checkbox", checked: agreed, onChange: ({ target }) => agree(target.checked) });
  return createElement("main", {}, error && createElement("p", {}, String(error)), box, createElement("ol", { id: "list" }, books));
}

createRoot(document.body.appendChild(document.createElement("div"))).render(createElement(Shelf));
