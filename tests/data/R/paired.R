# Makes ../paired.json from ../ratings_pairs.csv: Rscript paired.R (R with BradleyTerry2 and jsonlite)
suppressMessages(library(BradleyTerry2))
d <- read.csv("../ratings_pairs.csv")
items <- sort(unique(c(d$first, d$second)))
rows <- rbind(diag(length(items)) - 1 / length(items), t(combn(length(items), 2, function(at)
  replace(replace(numeric(length(items)), at[1], 1), at[2], -1))))
side <- function(x) data.frame(item = factor(x, items))
fit <- BTm(d$won, side(d$first), side(d$second), ~ item, id = "item", refcat = items[1])
all <- function(b) as.numeric(rows %*% c(0, b))
covariance <- rows %*% rbind(0, cbind(0, vcov(fit))) %*% t(rows)
# Leaving out an answer, a rater, a source, a driving, in one step of Newton's method from the fit
x <- model.matrix(fit)
spread <- function(group) {
  levels <- unique(group)
  left <- sapply(levels, function(one) all(suppressWarnings(glm.fit(
    x[group != one, ], d$won[group != one], start = coef(fit), family = binomial(),
    intercept = FALSE, control = list(maxit = 1)))$coefficients))
  (length(levels) - 1) / length(levels) * rowSums((left - rowMeans(left))^2)
}
parts <- list(seq_len(nrow(d)), d$rater, d$source, d$driving)
v <- sapply(parts, spread); df <- sapply(parts, function(g) length(unique(g))) - 1
more <- pmax(v[, -1] - v[, 1], 0)  # what answers share, beyond that of answers on their own
total <- v[, 1] + rowSums(more)
squares <- sweep(v^2, 2, df, "/")
freedom <- total^2 / (squares[, 1] + rowSums(squares[, -1] * (more > 0)))
strength <- all(coef(fit)); t <- strength / sqrt(total)
# Half a win on both sides, where an item never loses
players <- c("a", "b", "c")
of <- function(x) data.frame(item = factor(x, players))
half <- suppressWarnings(BTm(cbind(c(8.5, 5.5), c(0.5, 5.5)), of(c("a", "b")), of(c("b", "c")), ~ item,
                             id = "item"))
abilities <- BTabilities(half)[, "ability"]
versions <- paste0("R ", getRversion(), ", BradleyTerry2 ", packageVersion("BradleyTerry2"), ": paired.R")
result <- list(source = versions, items = items, strength = strength, model_error = sqrt(diag(covariance)),
               error = sqrt(total), df = freedom, p = 2 * pt(-abs(t), freedom), share = plogis(strength),
               half_wins = as.numeric(abilities - mean(abilities)))
writeLines(jsonlite::toJSON(result, auto_unbox = TRUE, digits = NA, pretty = TRUE), "../paired.json")
